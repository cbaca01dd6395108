"""python -m experiments.evaluate: `cachefl_jax.commands.evaluate`."""

from cachefl_jax.commands.evaluate import start

if __name__ == "__main__":
    start()
