"""A language model of transformers: loaded without code or pickles of its own, asked with seeds, never trusted."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import language_model
from cachefl_jax.synthesis.descriptions import LINES, Rules, describe
from cachefl_jax.synthesis.language_model import asker, find_model, instruction, load_model

NAMES, EXAMPLES = ("cat", "dog"), {"cat": "a photo of a cat.", "dog": "a photo of a dog."}
RULES = Rules(NAMES, lambda text: True, None)
CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


TOKENS = 80  # of an answer


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    monkeypatch.setattr(language_model, "TOKENS", TOKENS)


@pytest.fixture(scope="module")
def folder(make_language_model) -> pathlib.Path:
    return make_language_model()


@pytest.fixture(scope="module")
def ask(folder):
    return asker(load_model(find_model(str(folder))), str(folder), EXAMPLES)


def test_a_model_of_random_weights_gives_prompts_by_its_seed_alone(folder, ask):
    """Some of what it says names a cat and no dog."""
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    state = torch.random.get_rng_state()
    found = describe(ask, "cat", RULES, 3, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(found.prompts) == 3
    assert all("cat" in text and "dog" not in text for text in found.prompts)
    assert found.refused["without the class's name"] > 0
    assert found.refused["with another class's name"] > 0
    torch.manual_seed(5)
    assert describe(ask, "cat", RULES, 3, 0) == found
    assert describe(ask, "cat", RULES, 3, 1).prompts != found.prompts
    assert all("dog" in text for text in describe(ask, "dog", RULES, 3, 0).prompts)


def test_what_it_says_ends(ask):
    answers = ask("cat", 3, 0)
    assert len(answers) == 3
    assert max(len(answer.split()) for answer in answers) <= TOKENS + 1


def test_a_model_to_talk_with_is_talked_with(make_language_model):
    generator = load_model(make_language_model(CHAT))
    assert describe(asker(generator, "it", EXAMPLES), "dog", RULES, 4, 0).prompts
    asked = []

    def spy(text, **options):
        asked.append((text, options))
        return [{"generated_text": "a cat"}] * options["num_return_sequences"]

    spy.tokenizer = generator.tokenizer
    assert asker(spy, "it", EXAMPLES)("cat", 2, 0) == ["a cat", "a cat"]
    ((messages, options),) = asked
    assert messages == [{"role": "user", "content": instruction("cat", "a photo of a cat.")}]
    assert (options["num_return_sequences"], options["max_new_tokens"]) == (2, TOKENS)


def test_the_instruction_names_class_and_example_whatever_they_hold():
    text = instruction("sea_{hen}", "a {0} of a sea {hen}.")
    assert f"Write {LINES} different prompts" in text
    assert 'contains the words "sea {hen}"' in text
    assert 'such as "a {0} of a sea {hen}."' in text


def fake(answer):
    """A pipeline that gives this, or does it."""

    def generator(text, **options):
        return answer(options) if callable(answer) else answer

    generator.tokenizer = SimpleNamespace(chat_template=None)
    return generator


def fails(options):
    raise RuntimeError("CUDA error:\n device-side assert")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (fails, r"RuntimeError: CUDA error: device-side assert\); allowed: a model that answers"),
        (None, "TypeError: no list of answers, but NoneType"),
        ([], "TypeError: no list of answers, but list"),
        ("a cat", "TypeError: no list of answers, but str"),
        ([{"generated_text": None}], "TypeError: an answer without text"),
        ([["a cat"]], "TypeError: an answer without text"),
    ],
)
def test_a_pipeline_that_fails_is_told_in_one_line(answer, told):
    with pytest.raises(UsageError, match=rf"^synthesis\.language_model: got it \({told}"):
        describe(asker(fake(answer), "it", EXAMPLES), "cat", RULES, 4, 0)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "asdf qwer",
        "eine Katze auf dem Dach\nzwei Katzen",
        "<script>alert('cat')</script>",
        "\x1b[2Jcat",
        "cat " * 10**6,
    ],
)
def test_a_pipeline_that_answers_nonsense_is_told_in_one_line(answer):
    each = fake(lambda options: [{"generated_text": answer}] * options["num_return_sequences"])
    with pytest.raises(UsageError, match="got 0 of 8 descriptions of cat") as caught:
        describe(asker(each, "it", EXAMPLES), "cat", RULES, 8, 0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["/no/such/folder", "./nor/this", "neither_this"])
def test_a_missing_directory_is_refused(name):
    with pytest.raises(UsageError, match=r"synthesis\.language_model.*no such directory"):
        find_model(name)


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"synthesis\.language_model: got nobody/nothing.*from the hub"):
        find_model("nobody/nothing")


@pytest.fixture
def copied(folder, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json"):
        find_model(str(tmp_path))


def test_code_of_its_own_is_refused(copied):
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModelForCausalLM": "mine.Model"}}))
    with pytest.raises(UsageError, match=r"auto_map.*never run"):
        find_model(str(copied))


@pytest.mark.parametrize("damage", ["cut", "pickled", "no tokenizer", "another kind"])
def test_what_is_no_whole_model_is_refused(copied, damage):
    weights = copied / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:200])
    elif damage == "pickled":  # a sound .bin file would load, but only by unpickling
        torch.save(load_file(weights), copied / "pytorch_model.bin")
        weights.unlink()
    elif damage == "no tokenizer":
        (copied / "tokenizer.json").unlink()
    else:
        (copied / "config.json").write_text(json.dumps({"model_type": "none_known"}))
    with pytest.raises(UsageError, match=r"synthesis\.language_model: got .*copy .*in safetensors; mend") as caught:
        load_model(find_model(str(copied)))
    assert len(str(caught.value)) < 600
