"""Synthetic sets of different quality, for `experiments.benchmarks.set_measures`: how each is made.

Digits: what the embedded generator draws, by steps, guidance and prompts. Photographs: CIFAKE's images of Stable
Diffusion 1.4, whole or with one fault in several strengths, beside CIFAR-10. Every set becomes a feature bank of the
same training, validation and test rows.

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
from scipy import ndimage

from cachefl_jax.config import default, resolve
from cachefl_jax.configs import digits
from cachefl_jax.data import FeatureBank, Split, folder
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of, select
from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.server_set import bring
from cachefl_jax.storage.files import write_arrays

IMAGES = {"digits": 16, "photographs": 32}  # a class; all become keys
TRAIN, VALIDATION, TEST = 300, 200, 500  # photographs of a class
Fault = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # images [N, K, H, W, 3], random numbers -> images


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
    config = digits.get_config()
    config.compare, config.overrides, config.methods = (), (), ("cachefl",)
    config.cache.keys_per_class = config.synthesis.images_per_class = IMAGES["digits"]
    config.synthesis.steps, config.synthesis.guidance, config.synthesis.prompts = steps, guidance, prompts
    return Made(kind, name, lambda: prepare(resolve(config)).bank)


def photograph_sets(given: argparse.Namespace) -> Iterator[Made]:
    """CIFAKE's images, four samples of them and one with each fault; real ones, for comparison."""
    rows = Photographs(given.cifar, given.generated)
    for seed in range(4):
        yield Made("whole", f"sample {seed}", lambda seed=seed: rows.bank(rows.generated(seed)))
    for kind, faults in FAULTS.items():
        for name, fault in faults.items():
            yield Made(kind, name, lambda fault=fault: rows.bank(fault(rows.generated(0), np.random.default_rng(0))))
    yield Made("real", "real", lambda: rows.bank(rows.real()))
    yield Made("real", "half real", lambda: rows.bank(half_of_each(rows.real(), rows.generated(0))))


class Photographs:
    """Rows of CIFAR-10 at clients, for validation and test; and images for the server.

    Args:
        cifar: a folder with train and test, class folders in each.
        generated: class folders of generated images."""

    def __init__(self, cifar: str, generated: str):
        data = default().data
        data.path = cifar
        self.source, self.folder = folder.load(data), generated
        self.checkpoint = Checkpoint("pocket")
        labels = self.source.train.labels
        rows = shot_rows(labels, TRAIN + VALIDATION + IMAGES["photographs"], 0)
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
        """The bank whose server's images are these, [N, K, H, W, 3] uint8."""
        labels = np.repeat(np.arange(len(images), dtype=np.int32), images.shape[1])
        flat = np.ascontiguousarray(images.reshape(-1, *images.shape[2:]))
        split = LabelledImages(flat, labels, fingerprint_of(flat))
        return self.base._replace(synthetic=Split(image_features(self.checkpoint, split, "the server's set"), labels))

    def generated(self, seed: int) -> np.ndarray:
        return by_class(bring(self.folder, self.source.class_names, IMAGES["photographs"], seed))

    def real(self) -> np.ndarray:
        return by_class(select(self.source.train, self.server))


def by_class(split: LabelledImages) -> np.ndarray:
    """The images [N, K, H, W, 3] uint8 of a split that has K of every class."""
    order = np.argsort(split.labels, kind="stable")
    images = np.stack([np.asarray(split.images[row].convert("RGB")) for row in order])
    return images.reshape(split.labels.max() + 1, -1, *images.shape[1:])


def half_of_each(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    half = first.shape[1] // 2
    return np.concatenate([first[:, :half], second[:, half:]], axis=1)


def wrong(share: float) -> Fault:
    """A share of each class's images are of other classes, in turn."""

    def change(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        classes, count = images.shape[:2]
        changed = images.copy()
        for slot in rng.choice(count, round(share * count), replace=False):
            changed[:, slot] = np.roll(images[:, slot], rng.integers(1, classes), axis=0)
        return changed

    return change


def exchanged(pairs: int) -> Fault:
    """Each of the first classes stands for its neighbour."""
    order = np.arange(2 * pairs).reshape(-1, 2)[:, ::-1].ravel()
    return lambda images, _: np.concatenate([images[order], images[len(order) :]])


def pixels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Fault:
    """A change of pixels as float, back in whole numbers of 0 to 255."""
    return lambda images, rng: np.clip(np.rint(change(images.astype(np.float32), rng)), 0, 255).astype(np.uint8)


FAULTS: dict[str, dict[str, Fault]] = {
    "wrong labels": {f"{share:.0%} wrong": wrong(share) for share in (0.1, 0.3, 0.5, 0.7)},
    "classes exchanged": {f"{2 * pairs} exchanged": exchanged(pairs) for pairs in (1, 2, 5)},
    "few distinct": {
        f"{count} distinct": lambda images, _, count=count: images[:, np.arange(images.shape[1]) % count]
        for count in (1, 2, 4, 8)
    },
    "blurred": {
        f"blur {width}": pixels(lambda x, _, width=width: ndimage.gaussian_filter(x, (0, 0, width, width, 0)))
        for width in (1, 2, 4)
    },
    "noisy": {
        f"noise {size}": pixels(lambda x, rng, size=size: x + rng.normal(0, size, x.shape)) for size in (20, 60, 120)
    },
    "pale": {f"contrast {part}": pixels(lambda x, _, part=part: 128 + part * (x - 128)) for part in (0.3, 0.1)},
}  # fmt: skip
SETS = {"digits": digit_sets, "photographs": photograph_sets}


def write_bank(path: pathlib.Path, bank: FeatureBank) -> None:
    """A bank as `cachefl_jax.data.load_bank` reads it."""
    arrays = {"text_features": bank.text_features, "class_names": np.array(bank.class_names)}
    splits = {"train": bank.train, "val": bank.validation, "test": bank.test, "synthetic": bank.synthetic}
    for name, split in splits.items():
        arrays |= {f"{name}_features": split.features, f"{name}_labels": split.labels}
    write_arrays(path, arrays | {"metadata": np.array(json.dumps({"logit_scale": float(bank.logit_scale)}))})


def training_config(domain: str, bank: pathlib.Path) -> ConfigDict:
    """CacheFL alone on a bank: 20 clients, Dirichlet 0.1, 50 rounds."""
    config = default()
    config.data.name, config.data.path, config.synthesis.source = "feature_bank", str(bank), "bank"
    config.cache.keys_per_class = IMAGES[domain]
    config.methods, config.compare, config.overrides = ("cachefl",), (), ()
    config.rounds = config.eval_every = 50
    return config
