"""The rows that a method trains on and is tested by: what it names in `Method.inputs`, and no more.

Axis letters: n rows (of all views), N classes, D features.
"""

import math

import jax
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.data import Partition, Split
from cachefl_jax.federation import Clients, in_client_order, repeat_views, tree_bytes
from cachefl_jax.methods import Rows, text_logits
from cachefl_jax.methods.method import Text
from cachefl_jax.storage.files import check_room

TEXT_LOGITS_BYTES = 2**30  # text logits up to this size, or the features' own, are kept rather than made in every step
BLOCK_BYTES = 2**23  # of features whose text logits are computed at once


def bank_clients(partition: Partition, views: int) -> Clients:
    """Who holds which of the bank's training rows; of several views of them, one view after the other."""
    return repeat_views(Clients(partition.offsets.astype(np.int32), partition.indices.astype(np.int32)), views)


def reads_features(inputs: tuple[str, ...]) -> bool:
    """Whether a method of these `inputs` reads features."""
    return bool({"features", "text_logits"} & set(inputs))


def rows_without_logits(
    train: Split, views: np.ndarray | None, images: np.ndarray | None, reads_features: bool
) -> Rows:
    """The rows of all clients in the bank's own order, of all views [V, n, D] one after the other, without text logits;
    `images` [V n, H, W, 3], where they are read."""
    features, labels = train
    if views is not None:
        features, labels = views.reshape(-1, features.shape[1]), np.tile(labels, len(views))
    return Rows(labels, features if reads_features else None, images=images)


def in_order(clients: Clients, rows: Rows) -> tuple[Clients, Rows]:
    """(clients, rows) of a run, laid out client after client; before text logits are made, so that these are in memory
    once.

    Raises UsageError: there is no memory for them."""
    check_room("data", "training rows in the order of the clients", tree_bytes(rows))
    return in_client_order(clients, rows)


def tested_rows(split: Split | None, images: np.ndarray | None, wanted: tuple[str, ...]) -> Rows | None:
    """A split's rows on the device, as they are evaluated again and again; a CPU shares the host's copy.

    They have no text logits, which are computed where they are used.
    """
    if split is None:
        return None
    features = split.features if reads_features(wanted) else None
    return jax.device_put(Rows(split.labels, features, images=images))


def text_logits_of(
    features: np.ndarray, text: np.ndarray, logit_scale: float, places: np.ndarray | None = None
) -> np.ndarray | None:
    """Text logits [n, N], block by block, as computing them takes another copy of the rows; None where they are large.

    Args:
        features: [n, D].
        text: [N, D] class weights.
        logit_scale: of the bank.
        places: [n] where each row's go, so that other places change no bit of them; None: where the row is.

    Raises UsageError: there is no memory for them."""
    shape = (len(features), len(text))
    size = math.prod(shape) * 4
    if size > max(TEXT_LOGITS_BYTES, features.nbytes):
        return None
    check_room("data", "text logits of the training rows", size)
    frozen, compute = Text(text, np.float32(logit_scale)), jax.jit(text_logits)
    logits, step = empty(shape, np.float32), max(BLOCK_BYTES // features[0].nbytes, 1)
    for start in range(0, len(features), step):
        these = slice(start, start + step)
        logits[these if places is None else places[these]] = compute(frozen, Rows(None, features[these]))
    return logits
