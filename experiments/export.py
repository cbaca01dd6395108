"""python -m experiments.export: `cachefl_jax.commands.export`."""

from cachefl_jax.commands.export import start

if __name__ == "__main__":
    start()
