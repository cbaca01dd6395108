"""The config: its contract with scripts, and what it refuses."""

import re
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from cachefl_jax.config import default, differences, fields, from_json, lookup, resolve, validate
from cachefl_jax.config.data import IMAGE_SOURCES
from cachefl_jax.config.partition import CHANGES, OVER, QUANTITIES, SCHEMES
from cachefl_jax.errors import UsageError
from cachefl_jax.named import find
from experiments.configs import digits, feature_bank

CONTRACT = """
seed data.name data.path data.shots clip.checkpoint synthesis.source synthesis.images_per_class synthesis.pipeline
synthesis.prompts partition.name partition.clients partition.concentration partition.classes_per_client method methods
cache.keys_per_class cache.alpha cache.beta local.optimizer local.learning_rate local.weight_decay local.momentum
local.batch_size local.epochs server.optimizer server.learning_rate rounds cohort eval_every checkpoint_every
engine.client_chunk engine.devices
""".split()


@pytest.mark.parametrize("field", CONTRACT)
def test_fields_that_scripts_set_are_there(field):
    lookup(default(), field)


def test_every_field_has_a_meaning_and_a_default_in_its_range():
    names = [field.name for field in fields.FIELDS]
    assert len(names) == len(set(names))
    for field in fields.FIELDS:
        assert lookup(default(), field.name) == field.default
        assert field.holds(field.default), field.name
        assert field.meaning, field.name
        assert field.allowed, field.name
        assert field.mend, field.name
        assert not any(hasattr(ConfigDict, part) for part in field.name.split(".")), "a method would hide it"
        assert isinstance(field.default, float) or not field.traced, field.name


def test_a_config_is_checked_before_anything_large_loads():
    code = "import sys, cachefl_jax.config as c; c.resolve(c.default()); print({'jax', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_shipped_configs_are_valid():
    resolve(digits.get_config())
    resolve(digits.get_config("smoke"))
    bank = feature_bank.get_config()
    bank.data.path = "bank.npz"
    resolve(bank)


def test_a_bank_brings_its_own_synthetic_set():
    config = default()
    config.data.name, config.data.path = "feature_bank", "bank.npz"
    assert resolve(config).synthesis.source == "bank"
    assert config.synthesis.source == "pocket"


def test_a_bank_with_another_source_of_keys_is_refused():
    config = default()
    config.data.name, config.data.path, config.synthesis.source = "feature_bank", "bank.npz", "held_out"
    with pytest.raises(UsageError, match=r"synthesis.source: got held_out; allowed: bank"):
        resolve(config)


def server_of(config) -> tuple:
    return config.server.learning_rate, config.server.momentum, config.server.optimizer


def test_each_server_optimizer_has_numbers_of_its_own():
    config = default()
    assert server_of(resolve(config)) == (1.0, 0.0, "sgd")
    config.server.optimizer = "adam"
    assert server_of(resolve(config)) == (3e-3, 0.9, "adam")
    config.server.learning_rate, config.server.momentum = 0.5, 0.0
    assert server_of(resolve(config)) == (0.5, 0.0, "adam")
    assert server_of(resolve(resolve(config))) == (0.5, 0.0, "adam")
    config.server.learning_rate = -2.0
    with pytest.raises(UsageError, match=r"server.learning_rate: got -2.0; allowed: .*0 or more; or -1"):
        resolve(config)


def test_an_old_config_file_keeps_its_server():
    fields = {"server": {"optimizer": "adam", "learning_rate": 1.0, "momentum": 0.0}}
    assert server_of(from_json(fields)) == (1.0, 0.0, "adam")
    assert server_of(from_json({"server": {"optimizer": "sgd", "learning_rate": 0.5}})) == (0.5, 0.0, "sgd")


def test_a_whole_number_may_stand_for_a_float_but_not_a_bool():
    config = default()
    config.cache.alpha = 3
    resolve(config)
    del config.cache.alpha  # a ConfigDict would turn the new value into the old one's type
    config.cache.alpha = True
    with pytest.raises(UsageError, match=r"cache.alpha: got True; allowed: a number; mend: correct it"):
        resolve(config)


def test_differences_are_dotted_and_sorted():
    left = {"a": {"x": 1, "y": 2}, "b": 3, "same": [1]}
    right = {"a": {"x": 1, "y": 5}, "c": 3, "same": [1]}
    assert differences(left, right) == ["a.y", "b", "c"]


def test_an_error_is_one_line_whatever_is_put_in():
    error = UsageError("field", "two\nlines", "one", "mend it")
    assert str(error) == "field: got two lines; allowed: one; mend: mend it"


@pytest.mark.parametrize("table", [IMAGE_SOURCES, SCHEMES, OVER, QUANTITIES, CHANGES])
def test_every_name_means_a_function_of_the_data_layer(table):
    assert all(callable(find("field", name, table)) for name in table)


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("methods", (1, 2), r"methods: got \(1, 2\); allowed: texts in brackets.*put each of them in quotes"),
        ("data.splits", ("train", 2, "test"), r"data.splits: got .*; allowed: texts in brackets"),
        ("data.split_file", "None", r"data.split_file: got None; .*--config.data.split_file= with nothing behind it"),
        ("data.image_column", "None", r"data.image_column: got None; .*leave it out: it is image"),
    ],
)
def test_what_is_no_text_is_told_as_that(field, value, parts):
    """A flag makes the text "None" of None."""
    config = default()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UsageError, match=parts):
        resolve(config)


PATHS = ("data.path", "synthesis.path", "partition.path", "data.split_file", "clip.checkpoint", "synthesis.pipeline")


@pytest.mark.parametrize("field", [*PATHS, "data.hub"])
def test_home_and_relative_paths_mean_the_same_in_every_field(field, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for written in ("~/there", "there", "./there", str(tmp_path / "there")):
        config = default()
        config.data.path = "data"
        config.update_from_flattened_dict({field: written})
        assert lookup(resolve(config), field) == str(tmp_path / "there")


def test_a_stored_config_means_the_same_files_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = default()
    config.data.name, config.data.path, config.data.hub = "feature_bank", "bank.npz", "owner/name"
    stored = resolve(config).to_dict()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    back = from_json(stored)
    assert back.data.path == str(tmp_path / "bank.npz")
    assert (back.data.hub, back.clip.checkpoint) == ("owner/name", "pocket")
    config.data.path = "~nobody_here/x"
    with pytest.raises(UsageError, match=r"data.path: got ~nobody_here/x.*write the folder out"):
        resolve(config)


@pytest.mark.parametrize("name", [field.name for field in fields.FIELDS if type(field.default) in (int, float)])
def test_a_number_that_its_type_cannot_hold_is_refused_before_a_run(name):
    """Larger than int32, or infinite in float32: the run went through, and its own files were refused in the end."""
    config, group = digits.get_config("smoke"), name.rpartition(".")[0]
    value = 2**63 if isinstance(lookup(default(), name), int) else 1e39
    place = lookup(config, group) if group else config
    place[name.rpartition(".")[2]] = value
    with pytest.raises(UsageError, match=re.escape(f"{name}: got {value}; allowed: ")) as caught:
        resolve(config)
    assert isinstance(value, float) or caught.value.mend == "lower it"


def test_a_number_that_float32_takes_for_nothing_is_not_above_nothing():
    config = digits.get_config("smoke")
    config.local.epsilon = 1e-50  # AdamW would divide by it
    with pytest.raises(UsageError, match=r"local.epsilon: got 1e-50; allowed: a finite float32 number above 0"):
        resolve(config)


@pytest.mark.parametrize("address", ["gs://bucket/runs", "s3://bucket/bank.npz", "https://example.org/bank.npz"])
def test_an_address_is_no_path(address):
    config = default()
    config.data.name, config.data.path = "feature_bank", address
    with pytest.raises(UsageError, match=r"data.path: got \w+://.*a path on this machine.*mount or download it"):
        resolve(config)


def test_a_name_that_is_nearly_one_of_those_allowed_is_asked_for():
    config = default()
    config.data.layout = "sites/class"
    with pytest.raises(UsageError, match=r"data.layout: got sites/class; .*; mend: did you mean site/class\?"):
        validate(config)
