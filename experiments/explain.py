"""python -m experiments.explain: `cachefl_jax.commands.explain`."""

from cachefl_jax.commands.explain import start

if __name__ == "__main__":
    start()
