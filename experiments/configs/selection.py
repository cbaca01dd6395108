"""The config that --config=selection names, `cachefl_jax.configs.selection`, as a file of a checkout."""

from cachefl_jax.configs.selection import get_config, sweep

__all__ = ["get_config", "sweep"]
