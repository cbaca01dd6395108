"""The config that --config=selection_real names, `cachefl_jax.configs.selection_real`, as a file of a checkout."""

from cachefl_jax.configs.selection_real import get_config, sweep

__all__ = ["get_config", "sweep"]
