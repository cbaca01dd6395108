"""Values of a row's own."""

import pytest

from cachefl_jax.config import default, overrides_of, resolve, rows_of
from cachefl_jax.errors import UsageError


def config_with(*words, **more):
    config = default()
    config.overrides = words
    config.update(more)
    return config


def test_a_method_s_values_are_those_of_all_its_rows_and_a_regime_s_count_more():
    words = "cachefl: local.learning_rate=0.5", "cachefl@centralized: local.learning_rate=2", "cachefl: rounds=7"
    config = resolve(config_with(*words))
    found = {row.name: overrides_of(config, row) for row in rows_of(config) if row.regime != "zero_shot"}
    assert found["cachefl"] == found["local_only"] == {"local.learning_rate": 0.5, "rounds": 7}
    assert found["centralized"] == {"local.learning_rate": 2.0, "rounds": 7}


def test_a_regime_s_older_name_means_it_too():
    config = resolve(config_with("local_only: local.epochs=3"))
    found = {row.name: overrides_of(config, row) for row in rows_of(config) if row.regime != "zero_shot"}
    assert found == {"cache_init": {}, "cachefl": {}, "local_only": {"local.epochs": 3}, "centralized": {}}


@pytest.mark.parametrize("name", ["probe.py:probe", "probe", "./probe.py:probe"])
def test_a_user_s_row_has_its_values_by_any_name_that_it_goes_by(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.py").write_text("from cachefl_jax.methods.cachefl import cachefl as probe")
    words = f"{name}: local.learning_rate=0.5", f"{name}@alone: local.epochs=3"
    compared = ("cachefl", "probe.py:probe", "probe.py:probe@alone")
    config = resolve(config_with(*words, compare=compared))
    assert [overrides_of(config, row) for row in rows_of(config)] == [
        {}, {"local.learning_rate": 0.5}, {"local.learning_rate": 0.5, "local.epochs": 3},
    ]  # fmt: skip
    monkeypatch.chdir("/")
    assert resolve(config) == config, "config.json means the same from any folder"


def test_values_of_a_row_that_nobody_has_are_refused_and_those_of_a_rival_that_is_left_out_wait(tmp_path):
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("from cachefl_jax.methods.cachefl import cachefl as probe")
    both = tuple(f"{tmp_path}/{name}:probe" for name in ("one.py", "two.py"))
    for name, told in (
        ("linear_prob", "did you mean linear_probe"),
        ("prob@alone", "did you mean probe"),
        ("three.py:probe", "a row of this run, cachefl, probe"),
    ):
        with pytest.raises(UsageError, match=rf"overrides: got {name}; .*{told}"):
            resolve(config_with(f"{name}: local.epochs=3", compare=("cachefl", both[0])))
    with pytest.raises(UsageError, match=f"got probe; allowed: a row of this run, {both[0]}, {both[1]}"):
        resolve(config_with("probe: local.epochs=3", compare=both))
    assert resolve(config_with("linear_probe: local.epochs=3"))["overrides"] == ("linear_probe: local.epochs=3",)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("local.learning_rate=0.5", "overrides"),
        ("cachefl: local.learning_rate", "overrides"),
        ("cachefl: data.shots=3", "overrides"),
        ("cachefl: local.rate=3", "overrides"),
        ("cachefl@central: local.epochs=3", "compare"),
        ("cachefl: local.epochs=0.5", "overrides: local.epochs"),
        ("cachefl: local.epochs=0", "local.epochs"),
    ],
)
def test_what_is_no_value_of_a_row_s_own_is_refused(word, field):
    with pytest.raises(UsageError) as error:
        resolve(config_with(word))
    assert error.value.field == field
