"""The config that --config=images names, `cachefl_jax.configs.images`, as a file of a checkout."""

from cachefl_jax.configs.images import get_config, sweep

__all__ = ["get_config", "sweep"]
