"""python -m experiments.poc: `cachefl_jax.commands.poc`."""

from cachefl_jax.commands.poc import start

if __name__ == "__main__":
    start()
