"""The config that --config=fashion_mnist names, `cachefl_jax.configs.fashion_mnist`, as a file of a checkout."""

from cachefl_jax.configs.fashion_mnist import get_config, sweep

__all__ = ["get_config", "sweep"]
