"""CacheFL and zero-shot CLIP tuned by channels of the features, as few numbers as a cache can be tuned by.

APE-T (arXiv 2304.01195, section 3) trains a residual on chosen channels that all keys of a class and its text share:

    cache_channels  key[n,k] = key0[n,k] + S r[n],  text[n] = text0[n] + S r[n]

where r [N, Q] starts from zeros and S writes its Q numbers into the chosen channels. The server chooses them: those
with the smallest J[d] = lambda sim[d] - (1 - lambda) var[d] (equations 1 to 4), where sim[d] is the mean over pairs of
classes of the product of their representatives' channel d, and var[d] its variance over classes. A representative is
the class's text feature, or without texts the mean of the server's images. APE-T's third part, a trained weight of
each cached image by the texts' answer to it, is left out: with it alone the keys have values of their own, which
`cache_values` trains. The smallest step of the same kind is one factor a channel, for keys and texts of all classes:

    cache_scale     f becomes (1 + g) f, channel by channel, with g [D] from zeros

Axis letters: B batch, N classes, K keys a class, D features, Q chosen channels.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, RAISE, at_least, between
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.cache_variants import Frozen, freeze, numbers
from cachefl_jax.methods.cachefl import Cache, cache_logits, cachefl, cosines
from cachefl_jax.methods.method import Rows, Server, text_logits
from cachefl_jax.methods.on_features import class_means


class Chosen(NamedTuple):
    """What every client holds and nobody trains."""

    cache: Frozen
    channels: jax.Array  # [Q] int32
    text: jax.Array  # [N, D]
    logit_scale: jax.Array  # []


def criterion(representatives: np.ndarray, balance: float) -> np.ndarray:
    """J[d], [D]: small where classes differ. Of representatives [N, D], each of length 1."""
    classes = len(representatives)
    total, square = representatives.sum(axis=0), (representatives**2).sum(axis=0)
    similarity = (total**2 - square) / classes**2
    return balance * similarity - (1 - balance) * representatives.var(axis=0)


def choose(server: Server, config: ConfigDict) -> np.ndarray:
    """The chosen channels in ascending order, [Q].

    Raises UsageError: there are fewer channels."""
    count, width = config.cache_channels.channels, server.text.shape[1]
    if count > width:
        raise UsageError("cache_channels.channels", count, f"at most the features' {width}", "lower it")
    representatives = server.text if server.text.any() else class_means(server)
    order = np.argsort(criterion(representatives.astype(np.float64), config.cache_channels.balance), kind="stable")
    return np.sort(order[:count]).astype(np.int32)


def init_channels(server: Server, config: ConfigDict) -> np.ndarray:
    """r at round 0, [N, Q]."""
    return np.zeros((len(server.text), len(choose(server, config))), np.float32)


def freeze_channels(server: Server, config: ConfigDict) -> Chosen:
    cache = freeze(server, config)
    return Chosen(cache, choose(server, config), cache.text, cache.logit_scale)


def channel_logits(residual: jax.Array, frozen: Chosen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]: both parts take f . S r[n]."""
    moved, cache = rows.features[:, frozen.channels] @ residual.T, frozen.cache
    near = cosines(Cache(cache.keys), rows.features) + moved[:, :, None]
    return text_logits(frozen, rows) + frozen.logit_scale * moved + cache_logits(near, cache)


def channel_artefact(residual, frozen: Chosen) -> tuple[dict, dict]:
    """The keys and texts that the residual makes, and the formula's numbers."""
    whole = np.zeros(frozen.text.shape, np.float32)
    whole[:, np.asarray(frozen.channels)] = residual
    return {"keys": frozen.cache.keys + whole[:, None], "text": frozen.text + whole}, numbers(frozen.cache)


def init_scale(server: Server, config: ConfigDict) -> np.ndarray:
    """g at round 0, [D]."""
    del config
    return np.zeros(server.text.shape[1], np.float32)


def scale_logits(gains: jax.Array, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    scaled = rows.features * (1 + gains)[None]
    texts = text_logits(frozen, Rows(rows.labels, scaled))
    return texts + cache_logits(cosines(Cache(frozen.keys), scaled), frozen)


def scale_artefact(gains, frozen: Frozen) -> tuple[dict, dict]:
    """The keys and texts times the factors, and the formula's numbers."""
    return {"keys": frozen.keys * (1 + gains), "text": frozen.text * (1 + gains)}, numbers(frozen)


# fmt: off
CHANNEL_FIELDS = (
    Field("cache_channels.channels", 128, "channels of the features that are trained", *at_least(1), RAISE),
    Field("cache_channels.balance", 0.7, "weight of the classes' similarity in the choice of channels, beside their "
          "variance", *between(0, 1, closed=True), FINITE),
)
# fmt: on
BASE = cachefl._replace(linear=None, file="model.safetensors", untrained="")
cache_channels = BASE._replace(
    label="cache on chosen channels",
    init=init_channels,
    logits=channel_logits,
    freeze=freeze_channels,
    fields=(*cachefl.fields, *CHANNEL_FIELDS),
    artefact=channel_artefact,
    explanation="a residual a class on few channels, for keys and texts",
    privacy="A client sends a short vector a class. The gradient of a single sample is the chosen channels of its "
    "feature, and its signs tell the label.",
)
cache_scale = BASE._replace(
    label="cache with a factor a channel",
    init=init_scale,
    logits=scale_logits,
    freeze=freeze,
    inputs=("features",),
    artefact=scale_artefact,
    explanation="one factor for each channel of the features",
    privacy="A client sends one number a channel, summed over its samples and classes. A single sample's gradient is "
    "its feature times a mix of keys and texts; no label stands in it by itself.",
)
