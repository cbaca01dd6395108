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
