"""The cache's keys at round 0: which of the server's images they are made of, by the rule that the config names.

Axis letters: N classes, K keys a class, D features, n rows of the server's set.
"""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data import FeatureBank
from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.data.sampling import splits_of
from cachefl_jax.methods import Server
from cachefl_jax.synthesis import selection
from cachefl_jax.synthesis.selection import Rule, Selected, Set


def chosen(config: ConfigDict, bank: FeatureBank, real: np.ndarray | None = None) -> Selected:
    """The keys of a bank's synthetic rows, of which `real` [n] tells the real images.

    Raises UsageError: a class has fewer rows than it is to have keys, or the rule needs what there is not."""
    return chosen_of(config, Set(bank.synthetic.features, bank.synthetic.labels, bank.text_features, real))


def chosen_of(config: ConfigDict, candidates: Set) -> Selected:
    """As `chosen`, of the candidates by themselves."""
    rule = Rule(config.synthesis.selection, config.synthesis.mixture, config.seed)
    return selection.select(rule, candidates, config.cache.keys_per_class)


def server_of(keys: np.ndarray, bank: FeatureBank, **more) -> Server:
    """What the server brings: keys [N, K, D], and the bank's texts; `more` is the encoder and its templates, where
    there is one."""
    text = bank.text_features
    text = np.zeros((bank.classes, bank.width), np.float32) if text is None else np.asarray(text, np.float32)
    return Server(keys, text, bank.logit_scale, bank.class_names, **more)


def member_rows(members: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The rows of the set, in ascending order, that any key is made of."""
    return np.unique(np.concatenate([np.arange(0), *(rows for of_class in members for rows in of_class)]))


def keys_first(images: LabelledImages, members: Sequence[Sequence[np.ndarray]]) -> LabelledImages:
    """The server's images in another order: those that keys are made of, then the others."""
    keys = member_rows(members)
    return select(images, np.concatenate([keys, np.setdiff1d(np.arange(len(images.labels)), keys)]))


def leak_notes(source: ImageSet, keys: LabelledImages) -> list[str]:
    """How many images that accuracy is measured on are among those that the keys are made of."""
    notes = []
    for what, split in splits_of(source).items():
        if what != "train" and (shared := len(shared_rows(split, keys))):
            told = f"{shared} of {len(split.labels)} {what} images are keys of the cache too (synthesis.path)"
            notes.append(f"{told}: {what} accuracy is measured on what the cache was made of.")
    return notes
