"""The cache that a run starts from, which it leaves as cache_init.safetensors.

Axis letters: N classes, K keys a class, D features.
"""

import pathlib

import numpy as np
from safetensors import SafetensorError, safe_open

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.checked_json import TEXT, list_of, parse


def read_cache(cache: pathlib.Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """(keys [N, K, D], names [N] of their classes) of the cache that a run starts from.

    Raises UsageError: the run left no cache."""
    try:
        with safe_open(cache, "numpy") as file:
            keys, names = file.get_tensor("keys"), parse(file.metadata()["class_names"].encode(), str(cache))
        if keys.ndim != 3 or not list_of(TEXT).holds(names) or len(names) != len(keys):
            raise ValueError("not a name for each class of the keys")
        return keys, tuple(names)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        found = f"{cache} ({type(error).__name__})"
        raise UsageError("--workdir", found, "the cache that a run leaves", "repeat the run's command") from error
