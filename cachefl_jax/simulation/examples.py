"""The rows that a method trains on and is tested by: what it names in `Method.inputs`, and no more.

Axis letters: n rows (of all views), N classes, D features.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.data import FeatureBank, Partition, Split
from cachefl_jax.federation import Clients, in_client_order, repeat_views, tree_bytes
from cachefl_jax.methods import Rows, text_logits
from cachefl_jax.methods.method import Text
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.storage.files import check_room

TEXT_LOGITS_BYTES = 2**30  # text logits up to this size, or the features' own, are kept rather than made in every step
BLOCK_BYTES = 2**23  # of features whose text logits are computed at once


def bank_clients(bank: FeatureBank, division: Partition) -> Clients:
    """Who holds which of the bank's training rows; of several views of them, one view after the other."""
    clients = Clients(division.offsets.astype(np.int32), division.indices.astype(np.int32))
    return clients if bank.train_views is None else repeat_views(clients, len(bank.train_views))


class Source(NamedTuple):
    """What training rows are made of."""

    train: Split
    views: np.ndarray | None  # [V, n, D]
    text: np.ndarray  # [N, D]
    logit_scale: float
    images: np.ndarray | None  # [V n, H, W, 3] uint8, where they are read


def source_of(inputs: Inputs, images: np.ndarray | None) -> Source:
    bank, server = inputs.bank, inputs.server
    return Source(bank.train, bank.train_views, server.text, server.logit_scale, images)


def training_rows(source: Source, wanted: tuple[str, ...]) -> Rows:
    """The rows in the bank's own order, which all points of a sweep share; `wanted` is a method's `inputs`."""
    rows = rows_without_logits(source, wanted)
    if "text_logits" in wanted:
        rows = rows._replace(text_logits=text_logits_of(rows.features, source.text, source.logit_scale))
    return rows


def ordered_rows(source: Source, wanted: tuple[str, ...], clients: Clients) -> tuple[Clients, Rows]:
    """(clients, rows) of a run: as `bank_clients` and `training_rows`, laid out client after client.

    They are laid out before their text logits are made, so that these are in memory once.

    Raises:
        UsageError: there is no memory for them.
    """
    rows = rows_without_logits(source, wanted)
    check_room("data", "training rows in the order of the clients", tree_bytes(rows))
    places = np.argsort(clients.indices)
    clients, data = in_client_order(clients, rows)
    if "text_logits" in wanted:
        logits = text_logits_of(rows.features, source.text, source.logit_scale, places)
        data = data._replace(text_logits=logits)
    return clients, data


def rows_without_logits(source: Source, wanted: tuple[str, ...]) -> Rows:
    """The rows of all clients, of all views one after the other, without text logits."""
    features, labels = source.train
    if source.views is not None:
        features, labels = source.views.reshape(-1, features.shape[1]), np.tile(labels, len(source.views))
    return Rows(labels, features if {"features", "text_logits"} & set(wanted) else None, images=source.images)


def tested_rows(split: Split | None, images: np.ndarray | None, wanted: tuple[str, ...]) -> Rows | None:
    """A split's rows on the device, as they are evaluated again and again; a CPU shares the host's copy.

    They have no text logits, which are computed where they are used.
    """
    if split is None:
        return None
    features = split.features if {"features", "text_logits"} & set(wanted) else None
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

    Raises:
        UsageError: there is no memory for them.
    """
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
