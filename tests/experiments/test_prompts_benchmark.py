"""The benchmark of prompts: its configs differ in prompts alone, and its table is of the figures."""

import numpy as np

from cachefl_jax.config import default, resolve
from experiments.benchmarks.prompts import FIGURES, PROMPTS, config_of, table


def test_configs_differ_in_prompts_alone():
    own = default().synthesis
    configs = [resolve(config_of(changes, 3, 5, 4)) for changes in PROMPTS.values()]
    for config in configs:
        config.synthesis.prompts, config.synthesis.language_model = own.prompts, own.language_model
        assert config.to_dict() == configs[0].to_dict()
    assert (configs[0].seed, configs[0].rounds, configs[0].cache.keys_per_class) == (3, 5, 4)


def test_the_table_has_means_deviations_and_gains_of_equal_seeds():
    first = np.array([[60.0, 80, 1, 2, 3, 4], [62, 90, 1, 2, 3, 4]])
    lines = table({"one": first, "other": first + np.array([[0, 1, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0]])})
    assert lines[0].count("|") == lines[1].count("|") == len(FIGURES) + 3
    assert lines[2].startswith("| one | 61 ± 1.4 | 85 ± 7.1 | 1 ± 0 |")
    assert lines[3].endswith("| +2.00 ± 1.00 |")
