"""python -m experiments.site: `cachefl_jax.commands.site`."""

from cachefl_jax.commands.site import start

if __name__ == "__main__":
    start()
