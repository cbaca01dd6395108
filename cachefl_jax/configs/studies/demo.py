"""The demo's data, and every method on frozen features in one table: 20 clients under a strong label skew, 3 seeds.

python -m experiments.study --config=experiments/configs/studies/demo.py --workdir=runs/study

"""

from ml_collections import ConfigDict

from cachefl_jax.configs import digits
from cachefl_jax.configs.studies import ROWS


def get_config() -> ConfigDict:
    """The demo's config, as a start that every row may leave; no row begins from what an earlier study found."""
    config = digits.get_config()
    config.compare, config.overrides = ROWS, ()
    return config
