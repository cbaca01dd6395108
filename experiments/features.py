"""python -m experiments.features: `cachefl_jax.commands.features`."""

from cachefl_jax.commands.features import start

if __name__ == "__main__":
    start()
