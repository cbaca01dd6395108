"""A config to what a run starts from: the feature bank, who holds what, and images to look at."""

import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data import FeatureBank, Partition, Split, class_counts, class_grid, load_bank, partition
from cachefl_jax.data.bank import take_shots
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.synthesis import Request, request_of

PICTURES = 8  # images a class on the report's contact sheets


class Inputs(NamedTuple):
    """All that training needs, and what the report shows of it."""

    bank: FeatureBank
    division: Partition
    keys: np.ndarray  # [N, K, D] float32, the cache at round 0
    images: dict[str, np.ndarray] | None  # synthetic, real: [N, k, H, W, 3] uint8
    whole_model: dict | None  # name and bytes of the encoder, where it is known
    notes: list[str]


def prepare(config: ConfigDict) -> Inputs:
    """Builds everything that can be refused before a file is written.

    Raises:
        UsageError: a file, checkpoint or size that the config asks for is not to be had.
    """
    bank, images, whole_model, notes = SOURCES[config.data.name](config)
    bank = bank._replace(train=take_shots(bank.train, config.data.shots, config.seed))
    division = partition(bank.train.labels, config.partition, config.seed)
    keys = class_grid(bank.synthetic, bank.classes, config.cache.keys_per_class)
    if bank.text_features is None:
        notes.append("The bank has no text features: the zero-shot term is zero, and zero_shot has no accuracy.")
    if bank.validation is None:
        notes.append(
            "The bank has no validation rows: nothing was chosen on them, and no validation accuracy is given."
        )
    return Inputs(bank, division, keys, images, whole_model, notes)


def from_bank(config: ConfigDict):
    """A user's own features."""
    notes = ["Features came from a bank: the encoder is not known here, so bytes are not set against a whole model."]
    return load_bank(pathlib.Path(config.data.path)), None, None, notes


def from_digits(config: ConfigDict):
    """The embedded handwriting, encoded by a CLIP, beside a synthetic set drawn by a diffusion model."""
    # Imported here: these bring transformers and scikit-learn, three seconds that a feature bank need not wait for.
    from cachefl_jax.clip import encode_classes, encode_images, load_encoder
    from cachefl_jax.data import digits
    from cachefl_jax.synthesis import obtain

    source = digits.load()
    encoder = load_encoder(config.clip.checkpoint)
    drawn = obtain(synthesis_request(config, source.class_names, source.templates))
    text = encode_classes(encoder, source.class_names, tuple(config.clip.templates) or source.templates)
    parts = {
        "train": source.train,
        "validation": source.validation,
        "test": source.test,
        "synthetic": LabelledImages(drawn.images, drawn.labels),
    }
    splits = {name: Split(encode_images(encoder, part.images, name), part.labels) for name, part in parts.items()}
    metadata = {"encoder": config.clip.checkpoint, "synthetic": drawn.manifest}
    bank = FeatureBank(**splits, text_features=text, class_names=source.class_names,
                       logit_scale=encoder.logit_scale, metadata=metadata)  # fmt: skip
    images = {
        "synthetic": pictures(drawn.images, drawn.labels, len(source.class_names)),
        "real": pictures(source.train.images, source.train.labels, len(source.class_names)),
    }
    name = "pocket CLIP" if config.clip.checkpoint == "pocket" else config.clip.checkpoint
    return bank, images, {"name": name, "bytes": encoder.byte_count}, []


SOURCES = {"digits": from_digits, "feature_bank": from_bank}


def synthesis_request(config: ConfigDict, class_names: tuple[str, ...], templates: tuple[str, ...]) -> Request:
    """What the server's generator is asked for; `templates` where the config names no prompts."""
    synthesis = config.synthesis
    return request_of(
        pipeline="pocket" if synthesis.source == "pocket" else synthesis.pipeline,
        class_names=class_names,
        templates=tuple(synthesis.prompts) or templates,
        images_per_class=synthesis.images_per_class,
        seed=config.seed,
        steps=synthesis.steps,
        guidance=synthesis.guidance,
    )


def pictures(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The first images of every class, [N, k, H, W, 3]; k is at most PICTURES and what the poorest class has."""
    count = min(PICTURES, np.bincount(labels, minlength=classes).min())
    chosen = np.stack([images[labels == label][:count] for label in range(classes)])
    return chosen if chosen.ndim == 5 else np.repeat(chosen[..., None], 3, axis=-1)


def partition_arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """partition.npz: offsets [C+1], indices [n], class_counts [C, N]."""
    division, bank = inputs.division, inputs.bank
    counts = class_counts(division, bank.train.labels, bank.classes)
    return {"offsets": division.offsets, "indices": division.indices, "class_counts": counts}
