"""The server's prompts: from templates, a file or a language model; asked for once, kept, and read by later runs."""

import json
import pathlib

import numpy as np
import pytest

from cachefl_jax.clip import load_encoder
from cachefl_jax.config import default, resolve
from cachefl_jax.data.digits import CLASS_NAMES, TEMPLATES
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import server_prompts, set_steps
from cachefl_jax.simulation.encoded import Checkpoint
from cachefl_jax.simulation.server_prompts import fitting, prompts_json, prompts_words, text_features
from cachefl_jax.simulation.server_set import synthesis_request
from cachefl_jax.storage.entries import entries, faults
from cachefl_jax.storage.home import PROMPTS
from cachefl_jax.synthesis import language_model


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """An empty store; and no encoder is loaded only to find that a text fits."""
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(server_prompts, "fitting", lambda *_: lambda text: True)
    return tmp_path / "home"


def config_of(**changes):
    config = default()
    config.synthesis.language_model = "grammar"
    config.update_from_flattened_dict({f"synthesis.{name}": value for name, value in changes.items()})
    return config


def ask(config, names=CLASS_NAMES):
    return prompts_json(config, names, TEMPLATES)


@pytest.fixture
def nobody(monkeypatch):
    """Nothing may be asked for from here on."""

    def start():
        def fails(*_):
            raise AssertionError("asked again")

        monkeypatch.setattr(server_prompts, "describe", fails)

    return start


def test_templates_are_told_class_by_class():
    told = ask(config_of(language_model=""))
    assert told["prompts"]["two"] == [template.replace("{}", "two") for template in TEMPLATES]
    assert told["about"] == {"source": "templates", "templates": list(TEMPLATES)}
    assert prompts_words(told) == "40 prompts for 10 classes, by templates"


def test_a_file_is_told_with_its_digest(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({name: [f"my {name}"] for name in CLASS_NAMES}))
    told = ask(config_of(language_model="", prompts_file=str(path)))
    assert told["prompts"]["two"] == ["my two"]
    assert (told["about"]["source"], len(told["about"]["sha256"])) == ("file", 64)
    assert prompts_words(told) == f"10 prompts for 10 classes, from {path}"


def test_the_generator_is_asked_for_the_grammars_prompts_in_turn():
    config = config_of(descriptions=8, images_per_class=20)
    told, request = ask(config), synthesis_request(config, CLASS_NAMES, TEMPLATES)
    for name, row in zip(CLASS_NAMES, request.prompts, strict=True):
        own = told["prompts"][name]
        assert list(row) == own + own + own[:4]
        assert len(set(own)) == 8
        assert all(f" {name}" in text for text in own)


def test_what_was_asked_for_once_is_read_by_later_runs(nobody, own_home):
    first = ask(config_of())
    (entry,) = entries(kind=PROMPTS)
    assert (entry.whole, faults(entry)) == (True, [])
    assert {path.name for path in entry.folder.iterdir()} == {"manifest.json", "prompts.json"}
    assert json.loads((entry.folder / "prompts.json").read_text()) == first
    nobody()
    assert ask(config_of()) == first


@pytest.mark.parametrize("change", [{"descriptions": 15}, {"seed": 1}, {"names": CLASS_NAMES[:9]}])
def test_another_question_is_another_entry(change):
    first, config = ask(config_of()), config_of()
    config.seed = change.get("seed", 0)
    config.synthesis.descriptions = change.get("descriptions", 16)
    other = ask(config, change.get("names", CLASS_NAMES))
    assert len(entries(kind=PROMPTS)) == 2
    # Another class changes nothing of the others' prompts.
    assert (other["prompts"]["two"] == first["prompts"]["two"]) == ("names" in change)


def test_an_edited_entry_is_refused_and_a_copy_of_it_is_taken(own_home, tmp_path):
    told = ask(config_of())
    (entry,) = entries(kind=PROMPTS)
    told["prompts"]["two"] = ["the digit two."]
    (entry.folder / "prompts.json").write_text(json.dumps(told))
    assert faults(entry) == ["prompts.json has other bytes than were written"]
    with pytest.raises(UsageError, match=r"prompts\.json: got other content.*name a copy of it by synthesis.prompts_f"):
        ask(config_of())
    copy = pathlib.Path(entry.folder / "prompts.json").rename(tmp_path / "mine.json")
    copied = ask(config_of(language_model="", prompts_file=str(copy)))
    assert copied["prompts"] == told["prompts"]
    with pytest.raises(UsageError, match="other content than was written"):
        ask(config_of())


@pytest.mark.parametrize("cut", [0, 5])
def test_a_model_that_was_stopped_goes_on_with_the_other_classes(monkeypatch, own_home, cut):
    expected, asked, describe = ask(config_of())["prompts"], [], server_prompts.describe
    (entry,) = entries(kind=PROMPTS)
    for path in entry.folder.iterdir():
        path.unlink()
    entry.folder.rmdir()

    def stops(ask, name, *more):
        if name == "three" and "three" not in asked:
            asked.append(name)
            raise KeyboardInterrupt
        asked.append(name)
        return describe(ask, name, *more)

    monkeypatch.setattr(server_prompts, "describe", stops)
    with pytest.raises(KeyboardInterrupt):
        ask(config_of())
    (left,) = entries(kind=PROMPTS)
    assert not left.whole
    if cut:  # the last line only in part, as a full disk leaves it
        lines = left.folder / "classes.jsonl"
        lines.write_bytes(lines.read_bytes()[:-cut])
    assert ask(config_of())["prompts"] == expected
    again = ("two",) if cut else ()
    assert asked == ["zero", "one", "two", "three", *again, *CLASS_NAMES[3:]]


def test_a_language_model_is_asked_filtered_and_told(monkeypatch, make_digits_model, nobody):
    config = config_of(language_model=make_digits_model, descriptions=3)
    told = ask(config)
    for name, prompts in told["prompts"].items():
        assert prompts == [f"a bold {name}", f"the digit {name}"]
    about = told["about"]
    assert (about["source"], about["model"]) == ("language model", make_digits_model)
    assert about["made_of"]["instruction"] == language_model.INSTRUCTION
    assert about["made_of"]["examples"]["two"] == TEMPLATES[0].replace("{}", "two")
    assert about["refused"] == {
        "said before": 90,
        "without the class's name": 40,
        "too long for the text tower or the generator": 40,
        "with a text feature near another's": 10,
    }
    words = prompts_words(told)
    assert words.startswith(f"20 prompts for 10 classes by {make_digits_model}; refused lines: 90 said before, 40 ")
    assert words.endswith("; fewer than 3: zero (2), one (2), two (2) and 7 more")
    nobody()
    monkeypatch.setattr(language_model, "load_model", nobody)  # no model is needed now
    assert ask(config) == told


@pytest.fixture
def make_digits_model(tmp_path, monkeypatch):
    """The folder of a language model, and a model in its place that describes digits badly and well."""
    monkeypatch.setattr(server_prompts, "fitting", fitting)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def generator(text, **options):
        (name,) = [name for name in CLASS_NAMES if f'"{name}"' in text]
        long = f"5. {name} on a wall and " + "so " * 20
        lines = (f" a bold {name}", "2. a letter", f"3. the digit {name}", f"4. see digit {name}", long)
        return [{"generated_text": "\n".join(lines)}] * options["num_return_sequences"]

    generator.tokenizer = type("Tokenizer", (), {"chat_template": None})
    monkeypatch.setattr(language_model, "load_model", lambda directory: generator)
    # The embedded text tower has all texts of a digit nearly alike; these are far from those of another length.
    monkeypatch.setattr(server_prompts, "text_features", lambda _: lambda texts: np.eye(99)[[len(t) for t in texts]])
    return str(tmp_path / "model")


def test_the_stages_step_writes_a_file_that_a_run_takes(tmp_path):
    config = config_of(descriptions=4, images_per_class=2)
    said = set_steps.prompts(set_steps.Stage(config, tmp_path, False))
    assert said.startswith("prompts: 40 prompts for 10 classes by grammar")
    assert json.loads((tmp_path / "prompts.json").read_text()) == ask(config)
    copied = config_of(language_model="", prompts_file=str(tmp_path / "prompts.json"), images_per_class=2)
    assert synthesis_request(copied, CLASS_NAMES, TEMPLATES) == synthesis_request(config, CLASS_NAMES, TEMPLATES)


def test_fitting_is_by_the_text_tower_and_the_generator(monkeypatch):
    fits = fitting(Checkpoint("pocket"), "pocket")
    assert fits("a photo of the digit two.")
    assert not fits("a photo of the digit two" + " and the digit two" * 4)
    generous = type("Tokenizer", (), {"model_max_length": 3, "__call__": lambda self, text, **_: COUNTED})()
    COUNTED = type("Ids", (), {"input_ids": [0, 1, 2, 3]})
    monkeypatch.setattr(server_prompts, "load_tokenizers", lambda directory: [generous])
    assert not fitting(Checkpoint("pocket"), "pocket")("a photo of the digit two.")


def test_text_features_are_the_encoders_own():
    from cachefl_jax.clip.encoder import encode_classes

    texts = [f"the digit {name}." for name in CLASS_NAMES] * 4  # more than one batch
    expected = encode_classes(load_encoder("pocket"), CLASS_NAMES, ("the digit {}.",))
    np.testing.assert_allclose(text_features(Checkpoint("pocket"))(texts), np.tile(expected, (4, 1)), atol=1e-5)


def test_grammar_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "grammar").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(config_of()).synthesis.language_model == "grammar"
