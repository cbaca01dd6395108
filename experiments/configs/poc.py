"""The config that --config=poc names, `cachefl_jax.configs.poc`, as a file of a checkout."""

from cachefl_jax.configs.poc import get_config

__all__ = ["get_config"]
