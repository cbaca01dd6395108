"""The config that --config=studies/partitions names: `cachefl_jax.configs.studies.partitions`, in a checkout."""

from cachefl_jax.configs.studies.partitions import get_config, study

__all__ = ["get_config", "study"]
