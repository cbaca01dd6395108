"""The config that --config=studies/private names, `cachefl_jax.configs.studies.private`, as a file of a checkout."""

from cachefl_jax.configs.studies.private import get_config, study

__all__ = ["get_config", "study"]
