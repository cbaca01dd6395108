"""Features by way of the store: computed by the first run that needs them, opened by every other.

Only a missing entry loads the towers: a run that finds all it asks for needs no model at all.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from cachefl_jax.clip import find_checkpoint, weights_digest
from cachefl_jax.clip.images import Preparation, read_preparation
from cachefl_jax.clip.views import RATIO, SCALE, EveryView, Views
from cachefl_jax.data.feature_store import Record, obtain, obtain_record
from cachefl_jax.data.images import LabelledImages, without_blanks
from cachefl_jax.errors import UsageError


class Checkpoint:
    """A checkpoint as the store knows it; its towers are loaded when they are first needed, and once.

    Args:
        name: 'pocket', a directory in Hugging Face's format, or a hub name.
        dtype: what the towers compute in.
        batch_size: images an encoding step; 0 = choose.

    Raises UsageError: there is no such checkpoint, or its preparation cannot be followed."""

    def __init__(self, name: str, dtype: str = "float32", batch_size: int = 0):
        self.name, self.dtype, self.batch_size = name, dtype, batch_size
        self.directory = find_checkpoint(name)
        self.preparation, self.weights = read_preparation(self.directory), weights_digest(self.directory)

    @functools.cached_property
    def encoder(self):
        from cachefl_jax.clip import load_encoder

        return load_encoder(self.name, self.dtype)

    @functools.cached_property
    def image_encoder(self):
        """For images alone. The whole encoder is let go of: class names, if any, are to be encoded before."""
        from cachefl_jax.clip import image_part

        part = image_part(self.encoder)
        del self.encoder
        return part

    @property
    def whole(self) -> Callable[[], Any]:
        """() -> the encoder, kept."""
        return functools.partial(whole_encoder, self.name, self.dtype, self.weights)

    @property
    def options(self):
        from cachefl_jax.clip.encoding import Options

        return Options(self.batch_size, dtype=self.dtype)


def key_features(checkpoint: Checkpoint, split: LabelledImages, what: str, views: Views | None = None) -> np.ndarray:
    """Features [n, D] of the images that the cache's keys are made of, of several `views` averaged.

    Raises UsageError: as `image_features`; or an image is of one colour, as a generator's refusal is."""
    return image_features(checkpoint, without_blanks(split), what, views, made_of={"blank": "refused"})


def image_features(
    checkpoint: Checkpoint,
    split: LabelledImages,
    what: str,
    views: Views | None = None,
    use: str = "average",
    made_of: Mapping = MappingProxyType({}),
) -> np.ndarray:
    """Features [n, D] float32, L2-normalised, of a split; of several `views` averaged, or [V, n, D] to be rotated.

    The batch size and the kind of device are no part of an entry's name: they change features by rounding alone. What
    else made the features is in `made_of`.

    Raises UsageError: the store cannot be written or is damaged, an image is broken, or has no feature."""
    made_of = {
        "kind": "image features",
        "weights": checkpoint.weights,
        "dtype": checkpoint.dtype,
        "preparation": checkpoint.preparation._asdict(),
        "images": split.fingerprint,
        "views": views and {**views._asdict(), "use": use, "scale": SCALE, "ratio": RATIO},
        **made_of,
    }
    if views and checkpoint.preparation.size is None:
        field = "clip.key_views" if use == "average" else "clip.train_views"
        mend = f"{field}=0, or a checkpoint whose preparation crops"
        raise UsageError(field, views.count, "0, as the checkpoint's images keep their own sizes", mend)

    def blocks(start: int):
        from cachefl_jax.clip.encoding import averaged_blocks, image_blocks

        encoder, options = checkpoint.image_encoder, checkpoint.options
        if views and use == "average":
            return averaged_blocks(encoder, split.images, views, what, start, options)
        pictures, preparation = in_views(checkpoint, split, views)
        return image_blocks(encoder._replace(preparation=preparation), pictures, what, start, options)

    count = len(split.images)
    leading = (views.count, count) if views and use == "rotate" else (count,)
    return obtain(made_of, leading, blocks, what, {"encoder": checkpoint.name})


def in_views(checkpoint: Checkpoint, split: LabelledImages, views: Views | None) -> tuple[Sequence, Preparation]:
    """(the split's images, or all their `views` one after the other; how each is prepared)."""
    preparation = checkpoint.preparation
    if not views:
        return split.images, preparation
    pictures = EveryView(split.images, preparation.size, preparation.resample, views)
    return pictures, preparation._replace(resize=None, crop=None)


def pixels_by_split(
    checkpoint: Checkpoint, splits: Mapping[str, LabelledImages], what: str, turning: Views | None = None
) -> Callable[[str], np.ndarray]:
    """(a split's name) -> the pixels that its features were made of, [n, H, W, 3] uint8; of the training images all
    views `turning`, one after the other. Nothing is decoded before the call."""

    def pixels(role: str) -> np.ndarray:
        from cachefl_jax.clip.encoding import prepared_pixels

        pictures, preparation = in_views(checkpoint, splits[role], turning if role == "train" else None)
        return prepared_pixels(preparation, pictures, f"{what}, {role}")

    return pixels


@functools.lru_cache(maxsize=1)  # the points of a sweep share its arrays
def whole_encoder(name: str, dtype: str, weights: str):
    """A checkpoint's towers, for a method that asks for them; `weights` tells its states apart."""
    from cachefl_jax.clip import load_encoder

    del weights
    return load_encoder(name, dtype)


def class_weights(checkpoint: Checkpoint, class_names: Sequence[str], templates: Sequence[str], what: str) -> Record:
    """The texts' side: arrays {"text_features": [N, D] float32}, facts {"logit_scale", "whole_model": {...}}.

    The whole model is told in bytes, parameters, and FLOPs of an image forward and backward.

    Raises UsageError: as `cachefl_jax.clip.encode_classes`, or the store cannot be written or is damaged."""
    made_of = {
        "kind": "class weights",
        "weights": checkpoint.weights,
        "dtype": checkpoint.dtype,
        "class_names": list(class_names),
        "templates": list(templates),
    }

    def compute() -> Record:
        from cachefl_jax.clip import encode_classes, tower_costs

        encoder = checkpoint.encoder
        image, _, whole = tower_costs(checkpoint.directory)
        model = {
            "bytes": encoder.byte_count, "parameters": whole.parameters, "image_parameters": image.parameters,
            "image_forward_flops": image.forward_flops, "image_backward_flops": image.backward_flops,
        }  # fmt: skip
        facts = {"logit_scale": encoder.logit_scale, "whole_model": model}
        return Record({"text_features": encode_classes(encoder, class_names, templates)}, facts)

    return obtain_record(made_of, compute, what, {"encoder": checkpoint.name})
