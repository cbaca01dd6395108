"""python -m experiments.report: `cachefl_jax.commands.report`."""

from cachefl_jax.commands.report import start

if __name__ == "__main__":
    start()
