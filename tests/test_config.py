"""The config: its contract with scripts, and what it refuses."""

import pytest

from cachefl_jax import rules
from cachefl_jax.config import RULES, default, differences, lookup, resolve
from cachefl_jax.data.partition import FOUND, NAMES
from cachefl_jax.data.schemes import OVER, QUANTITIES
from cachefl_jax.data.skew import CHANGE_NAMES
from cachefl_jax.data.sources import SOURCES
from cachefl_jax.data.suite import names
from cachefl_jax.errors import UsageError
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


def test_every_rule_names_a_field_whose_default_keeps_it():
    for rule in RULES:
        assert rule.holds(lookup(default(), rule.field)), rule.field


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


def test_a_whole_number_may_stand_for_a_float_but_not_a_bool():
    config = default()
    config.cache.alpha = 3
    resolve(config)
    del config.cache.alpha  # a ConfigDict would turn the new value into the old one's type
    config.cache.alpha = True
    with pytest.raises(UsageError, match=r"cache.alpha: got True; allowed: float"):
        resolve(config)


def test_differences_are_dotted_and_sorted():
    left = {"a": {"x": 1, "y": 2}, "b": 3, "same": [1]}
    right = {"a": {"x": 1, "y": 5}, "c": 3, "same": [1]}
    assert differences(left, right) == ["a.y", "b", "c"]


def test_an_error_is_one_line_whatever_is_put_in():
    error = UsageError("field", "two\nlines", "one", "mend it")
    assert str(error) == "field: got two lines; allowed: one; mend: mend it"


def test_names_that_a_config_may_give_are_those_that_the_code_knows():
    """The rules repeat them, so that checking a config imports nothing of the data layer."""
    assert ("none", *rules.CHANGES, "mixed") == CHANGE_NAMES
    assert tuple(FOUND) == rules.FOUND
    for field, known in (
        ("data.name", ("feature_bank", *SOURCES, *names())),
        ("partition.name", NAMES),
        ("partition.over", OVER),
        ("partition.quantity", QUANTITIES),
    ):
        (rule,) = (rule for rule in rules.RULES if rule.field == field)
        assert set(rule.allowed.split(" | ")) == set(known)
