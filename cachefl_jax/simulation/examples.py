"""The training rows of a federation, on the host: features, labels and, where these are small, text logits.

Axis letters: n rows (of all views), N classes, D features.
"""

import math

import jax
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.data import FeatureBank, Partition, Split
from cachefl_jax.federation import Clients, in_client_order, repeat_views
from cachefl_jax.methods import Examples, Frozen, text_logits
from cachefl_jax.storage.files import check_room

TEXT_LOGITS_BYTES = 2**30  # text logits up to this size, or the features' own, are kept rather than made in every step
BLOCK_BYTES = 2**23  # of features whose text logits are computed at once


def bank_clients(bank: FeatureBank, division: Partition) -> Clients:
    """Who holds which of the bank's training rows; of several views of them, one view after the other."""
    clients = Clients(division.offsets.astype(np.int32), division.indices.astype(np.int32))
    return clients if bank.train_views is None else repeat_views(clients, len(bank.train_views))


def bank_examples(train: Split, views: np.ndarray | None, text: np.ndarray, logit_scale: float) -> Examples:
    """The rows in the bank's own order, which all points of a sweep share."""
    rows = all_rows(train, views)
    return rows._replace(text_logits=text_logits_of(rows.features, text, logit_scale))


def ordered_examples(bank: FeatureBank, clients: Clients, text: np.ndarray) -> tuple[Clients, Examples]:
    """(clients, rows) of a run: as `bank_clients` and `bank_examples`, laid out client after client.

    They are laid out before their text logits are made, so that these are in memory once.

    Raises:
        UsageError: there is no memory for them.
    """
    rows = all_rows(bank.train, bank.train_views)
    check_room("data", "training rows in the order of the clients", rows.features.nbytes)
    places = np.argsort(clients.indices)
    clients, data = in_client_order(clients, rows)
    logits = text_logits_of(rows.features, text, bank.logit_scale, places)
    return clients, data._replace(text_logits=logits)


def all_rows(train: Split, views: np.ndarray | None) -> Examples:
    """The rows of all clients, of all views one after the other, without text logits."""
    if views is None:
        return Examples(train.features, train.labels)
    return Examples(views.reshape(-1, views.shape[-1]), np.tile(train.labels, len(views)))


def text_logits_of(
    features: np.ndarray, text: np.ndarray, logit_scale: float, places: np.ndarray | None = None
) -> np.ndarray | None:
    """Text logits [n, N], block by block, as computing them takes another copy of the rows; None where they are large.

    Args:
        features: [n, D].
        text: [N, D] class weights.
        logit_scale: of the bank.
        places: [n] where each row's go, so that other places change no bit of them; None: where the row is.

    Raises:
        UsageError: there is no memory for them.
    """
    shape = (len(features), len(text))
    size = math.prod(shape) * 4
    if size > max(TEXT_LOGITS_BYTES, features.nbytes):
        return None
    check_room("data", "text logits of the training rows", size)
    # alpha and beta take no part in them.
    frozen = Frozen(text, *map(np.float32, (logit_scale, 0, 0)))
    logits, compute, step = empty(shape, np.float32), jax.jit(text_logits), max(BLOCK_BYTES // features[0].nbytes, 1)
    for start in range(0, len(features), step):
        these = slice(start, start + step)
        logits[these if places is None else places[these]] = compute(frozen, features[these])
    return logits
