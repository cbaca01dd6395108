"""The config that --config=feature_bank names, `cachefl_jax.configs.feature_bank`, as a file of a checkout."""

from cachefl_jax.configs.feature_bank import get_config, sweep

__all__ = ["get_config", "sweep"]
