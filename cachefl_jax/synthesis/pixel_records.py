"""What the pixels of the server's images tell: computed once for a set, and found in the store by every later run."""

from collections.abc import Callable

import numpy as np

from cachefl_jax.data.feature_store import Record, obtain_record
from cachefl_jax.data.images import LabelledImages

WHAT = "the server's images"


def recorded(images: LabelledImages, kind: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that the images' pixels alone determine, by name; `kind` is their name in the store.

    Raises UsageError: whatever `compute` refuses, or the store cannot be written."""
    made_of = {"kind": kind, "images": images.fingerprint}
    return obtain_record(made_of, lambda: Record(compute(), {}), f"{WHAT}, {kind}").arrays
