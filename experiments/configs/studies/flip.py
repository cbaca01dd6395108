"""The config that --config=studies/flip names, `cachefl_jax.configs.studies.flip`, as a file of a checkout."""

from cachefl_jax.configs.studies.flip import get_config, study

__all__ = ["get_config", "study"]
