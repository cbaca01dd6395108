"""python -m experiments.run: `cachefl_jax.commands.run`."""

from cachefl_jax.commands.run import start

if __name__ == "__main__":
    start()
