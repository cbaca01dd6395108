"""python -m experiments.fields: `cachefl_jax.commands.fields`."""

from cachefl_jax.commands.fields import start

if __name__ == "__main__":
    start()
