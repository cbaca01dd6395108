"""The shipped studies: each is one, in the settings that it names."""

import importlib

import pytest

from cachefl_jax.commands.named_flags import CONFIGS
from cachefl_jax.commands.sweep import added
from cachefl_jax.config.method import METHODS
from cachefl_jax.configs.studies import TOWERS
from cachefl_jax.study.plan import study_of

SETTINGS = {"partitions": 2, "demo": 1, "suite": 44, "fedpft": 1, "flip": 2, "pocket": 2, "private": 7}
FEWER = {"private": {"cachefl", "linear_probe"}}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_shipped_study_passes_every_check_and_has_its_settings(name):
    file = CONFIGS[f"studies/{name}"]
    config = importlib.import_module(f"experiments.configs.studies.{name}").get_config()
    study = study_of(config, added(str(file), "study") or [{}])
    assert len(study.settings) == SETTINGS[name]
    assert {row.method for row in study.rows} >= FEWER.get(name, METHODS.keys() - set(TOWERS))


def test_every_shipped_study_is_tested_here():
    assert {name.removeprefix("studies/") for name in CONFIGS if "/" in name} == SETTINGS.keys()
