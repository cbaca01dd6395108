"""python -m experiments.server: `cachefl_jax.commands.server`."""

from cachefl_jax.commands.server import start

if __name__ == "__main__":
    start()
