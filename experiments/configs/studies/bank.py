"""The config that --config=studies/bank names, `cachefl_jax.configs.studies.bank`, as a file of a checkout."""

from cachefl_jax.configs.studies.bank import get_config, study

__all__ = ["get_config", "study"]
