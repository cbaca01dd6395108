"""python -m experiments.synthesize: `cachefl_jax.commands.synthesize`."""

from cachefl_jax.commands.synthesize import start

if __name__ == "__main__":
    start()
