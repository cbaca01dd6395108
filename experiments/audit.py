"""python -m experiments.audit: `cachefl_jax.commands.audit`."""

from cachefl_jax.commands.audit import start

if __name__ == "__main__":
    start()
