"""python -m experiments.predict: `cachefl_jax.commands.predict`."""

from cachefl_jax.commands.predict import start

if __name__ == "__main__":
    start()
