"""CacheFL in JAX: federated fine-tuning of vision-language models by a cache of synthetic images.

`simulate` runs an experiment from Python. The commands are in `cachefl_jax.commands`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from ml_collections import ConfigDict

    from cachefl_jax.simulation.train import Results

__all__ = ["simulate"]
__version__ = "0.1.0"


def simulate(config: "ConfigDict", workdir: "str | os.PathLike | None" = None) -> "Results":
    """Runs, or resumes, one experiment and returns what came out.

        from cachefl_jax import simulate
        from cachefl_jax.configs.digits import get_config

        results = simulate(get_config("smoke"))
        print(results.params.keys.shape, results.summary["methods"]["cachefl"]["test_accuracy"])

    Nothing is printed to stdout; notes and progress go to stderr. No signal handler is installed. JAX's settings are
    afterwards as they were, but for the number of its CPU devices, which it fixes when it starts, and for where it
    keeps compiled programs.

    Args:
        config: `cachefl_jax.config.default()` with changes, or what a config file's `get_config()` returns. It is left
            as it is.
        workdir: the folder of the run, which then holds what `cachefl run --workdir` leaves: the same call goes on
            where an earlier one was stopped, and reads what a finished one has left. None: no folder is read or
            written; as always, synthetic images, features and compiled programs are kept in the store, CACHEFL_HOME.

    Returns:
        `cachefl_jax.simulation.train.Results`: summary, records (a dict a round), params, artefact, metadata; of
        CacheFL `params.keys` and `artefact["keys"]`, [N classes, K keys a class, D features] float32.

    Raises UsageError: the config is wrong or asks for what is not there, such as more devices than JAX was started with
    by an earlier call, or the folder holds another run. Nothing has been written to it then."""
    # Imported here: the package itself must cost nothing to import.
    from cachefl_jax.simulation.simulate import simulate

    return simulate(config, workdir)
