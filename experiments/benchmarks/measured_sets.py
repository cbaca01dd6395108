"""Synthetic sets of different quality, for `experiments.benchmarks.set_measures`: how each is made.

Digits: what the embedded generator draws, by steps, guidance and prompts; and one of these sets with one fault in
several strengths. Photographs: CIFAKE's images of Stable Diffusion 1.4, sound or with one fault, beside CIFAR-10. Every
set becomes a feature bank of the same training, validation and test rows.

Axis letters: N classes, K images a class, n rows, H W image.
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import default, resolve
from cachefl_jax.configs import digits
from cachefl_jax.data import FeatureBank, Split, folder
from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of, select
from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.server_set import load_all
from cachefl_jax.storage.files import write_arrays
from experiments.benchmarks.set_faults import FAULTS, half_of_each

IMAGES = 16  # a class; all become keys
TRAIN, VALIDATION, TEST = 100, 200, 500  # photographs of a class


class Made(NamedTuple):
    """A set of some quality."""

    kind: str  # what is varied
    name: str  # of this set
    bank: Callable[[], FeatureBank]


def digit_sets(_: argparse.Namespace) -> Iterator[Made]:
    """What the embedded generator draws at different steps, guidance and prompts."""
    for steps, guidance in itertools.product((1, 2, 3, 5, 10, 20), (1.0, 2.0, 5.0)):
        yield digit_set("steps and guidance", f"{steps} steps, guidance {guidance:g}", steps, guidance)
    styles = ("bold", "thin", "slanted", "serif", "typewriter", "blurred")
    prompts = {
        "one word": ("{}",),
        "one template": ("the digit {}.",),
        "styles": tuple(f"the {style} digit {{}}." for style in styles),
        "bold alone": ("the bold digit {}.",),
        "blurred alone": ("the blurred digit {}.",),
        "called letters": ("a photo of the capital letter {}.",),
    }
    for name, texts in prompts.items():
        yield digit_set("prompts", name, 10, 2.0, texts)


def digit_set(kind: str, name: str, steps: int, guidance: float, prompts: tuple[str, ...] = ()) -> Made:
    return Made(kind, name, lambda: prepare(digit_config(steps, guidance, prompts)).bank)


def digit_config(steps: int, guidance: float, prompts: tuple[str, ...] = ()) -> ConfigDict:
    config = digits.get_config()
    config.compare, config.overrides, config.methods = (), (), ("cachefl",)
    config.cache.keys_per_class = config.synthesis.images_per_class = IMAGES
    config.synthesis.steps, config.synthesis.guidance, config.synthesis.prompts = steps, guidance, prompts
    return resolve(config)


def faulty_digit_sets(_: argparse.Namespace) -> Iterator[Made]:
    """The most diverse of these sets, sound and with each fault."""
    config = digit_config(20, 1.0)
    bank, (_, synthetic, _) = prepare(config).bank, load_all(config)
    checkpoint, images = Checkpoint("pocket"), by_class(synthetic)
    yield Made("sound", "sound", lambda: with_images(bank, checkpoint, images))
    for kind, name, change in all_faults():
        yield Made(kind, name, lambda change=change: with_images(bank, checkpoint, change(images)))


def all_faults() -> Iterator[tuple[str, str, Callable[[np.ndarray], np.ndarray]]]:
    """(kind, name, what it does to images) of every fault."""
    for kind, faults in FAULTS.items():
        for name, fault in faults.items():
            yield kind, name, lambda images, fault=fault: fault(images, np.random.default_rng(0))


def with_images(bank: FeatureBank, checkpoint: Checkpoint, images: np.ndarray) -> FeatureBank:
    """The bank with these as the server's images, [N, K, H, W, 3] uint8."""
    labels = np.repeat(np.arange(len(images), dtype=np.int32), images.shape[1])
    flat = np.ascontiguousarray(images.reshape(-1, *images.shape[2:]))
    features = image_features(checkpoint, LabelledImages(flat, labels, fingerprint_of(flat)), "the server's set")
    return bank._replace(synthetic=Split(features, labels))


def photograph_sets(given: argparse.Namespace) -> Iterator[Made]:
    """CIFAKE's images, four samples of them and one of these with each fault; real ones, for comparison."""
    rows = Photographs(given.cifar, given.generated)
    for seed in range(4):
        yield Made("sound", f"sample {seed}", lambda seed=seed: rows.bank(rows.generated(seed)))
    for kind, name, change in all_faults():
        yield Made(kind, name, lambda change=change: rows.bank(change(rows.generated(0))))
    yield Made("real", "real", lambda: rows.bank(rows.real()))
    yield Made("real", "half real", lambda: rows.bank(half_of_each(rows.real(), rows.generated(0))))


class Photographs:
    """Rows of CIFAR-10 at clients, for validation and test; and images for the server.

    Args:
        cifar: a folder with train and test, class folders in each.
        generated: class folders of generated images."""

    def __init__(self, cifar: str, generated: str):
        self.source, self.made = folder_of(cifar), folder_of(generated, ("train", "", ""))
        if self.made.class_names != self.source.class_names:
            allowed = f"folders called {', '.join(self.source.class_names)}"
            raise UsageError("--generated", generated, allowed, "rename or leave out the others")
        self.checkpoint = Checkpoint("pocket")
        labels = self.source.train.labels
        rows = shot_rows(labels, TRAIN + VALIDATION + IMAGES, 0)
        place = np.concatenate([np.arange(count) for count in np.bincount(labels[rows])])
        self.rows = [rows[place < TRAIN], rows[(place >= TRAIN) & (place < TRAIN + VALIDATION)]]
        self.server = rows[place >= TRAIN + VALIDATION]
        self.base = self.features_of_source(self.source)

    def features_of_source(self, source: ImageSet) -> FeatureBank:
        """All but the server's rows. The texts are the bare names: the pocket CLIP takes no more than 16 tokens."""
        test = select(source.test, shot_rows(source.test.labels, TEST, 0))
        parts = [*(select(source.train, rows) for rows in self.rows), test]
        weights = class_weights(self.checkpoint, source.class_names, ("{}",), "class names")
        train, validation, test = (
            Split(image_features(self.checkpoint, part, "CIFAR-10"), part.labels) for part in parts
        )
        text, scale = weights.arrays["text_features"], weights.facts["logit_scale"]
        return FeatureBank(train, validation, test, train, text, source.class_names, scale, {"logit_scale": scale})

    def bank(self, images: np.ndarray) -> FeatureBank:
        return with_images(self.base, self.checkpoint, images)

    def generated(self, seed: int) -> np.ndarray:
        return by_class(select(self.made.train, shot_rows(self.made.train.labels, IMAGES, seed)))

    def real(self) -> np.ndarray:
        return by_class(select(self.source.train, self.server))


def folder_of(path: str, splits: tuple[str, str, str] = default().data.splits) -> ImageSet:
    """The images of class folders."""
    data = default().data
    data.path, data.splits = path, splits
    return folder.load(data)


def by_class(split: LabelledImages) -> np.ndarray:
    """The images [N, K, H, W, 3] uint8 of a split that has K of every class."""
    order = np.argsort(split.labels, kind="stable")
    images = np.stack([in_colour(split.images[row]) for row in order])
    return images.reshape(split.labels.max() + 1, -1, *images.shape[1:])


SETS = {"digits": digit_sets, "digits with faults": faulty_digit_sets, "photographs": photograph_sets}


def write_bank(path: pathlib.Path, bank: FeatureBank) -> None:
    """A bank as `cachefl_jax.data.load_bank` reads it."""
    arrays = {"text_features": bank.text_features, "class_names": np.array(bank.class_names)}
    splits = {"train": bank.train, "val": bank.validation, "test": bank.test, "synthetic": bank.synthetic}
    for name, split in splits.items():
        arrays |= {f"{name}_features": split.features, f"{name}_labels": split.labels}
    write_arrays(path, arrays | {"metadata": np.array(json.dumps({"logit_scale": float(bank.logit_scale)}))})


def training_config(bank: pathlib.Path) -> ConfigDict:
    """CacheFL alone on a bank: 20 clients, Dirichlet 0.1, 50 rounds."""
    config = default()
    config.data.name, config.data.path, config.synthesis.source = "feature_bank", str(bank), "bank"
    config.cache.keys_per_class = IMAGES
    config.methods, config.compare, config.overrides = ("cachefl",), (), ()
    config.rounds = config.eval_every = 50
    return config
