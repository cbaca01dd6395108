"""The config that --config=studies/demo names, `cachefl_jax.configs.studies.demo`, as a file of a checkout."""

from cachefl_jax.configs.studies.demo import get_config

__all__ = ["get_config"]
