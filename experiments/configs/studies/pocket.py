"""The config that --config=studies/pocket names: `cachefl_jax.configs.studies.pocket`, in a checkout."""

from cachefl_jax.configs.studies.pocket import get_config, study

__all__ = ["get_config", "study"]
