"""The config that --config=digits names, `cachefl_jax.configs.digits`, as a file of a checkout."""

from cachefl_jax.configs.digits import get_config, sweep

__all__ = ["get_config", "sweep"]
