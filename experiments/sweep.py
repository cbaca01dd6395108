"""python -m experiments.sweep: `cachefl_jax.commands.sweep`."""

from cachefl_jax.commands.sweep import start

if __name__ == "__main__":
    start()
