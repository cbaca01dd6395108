"""The config that --config=hostile names, `cachefl_jax.configs.hostile`, as a file of a checkout."""

from cachefl_jax.configs.hostile import get_config, sweep

__all__ = ["get_config", "sweep"]
