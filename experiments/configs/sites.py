"""The config that --config=sites names, `cachefl_jax.configs.sites`, as a file of a checkout."""

from cachefl_jax.configs.sites import get_config, sweep

__all__ = ["get_config", "sweep"]
