"""The config that --config=studies/fedpft names, `cachefl_jax.configs.studies.fedpft`, as a file of a checkout."""

from cachefl_jax.configs.studies.fedpft import get_config

__all__ = ["get_config"]
