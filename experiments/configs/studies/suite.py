"""The config that --config=studies/suite names, `cachefl_jax.configs.studies.suite`, as a file of a checkout."""

from cachefl_jax.configs.studies.suite import get_config, study

__all__ = ["get_config", "study"]
