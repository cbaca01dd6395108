"""python -m experiments.study: `cachefl_jax.commands.study`."""

from cachefl_jax.commands.study import start

if __name__ == "__main__":
    start()
