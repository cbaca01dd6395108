"""Predictions of a run's cache, with the server's images that its nearest keys came from.

Axis letters: n images, N classes, K keys a class, D features.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.clip.views import Views
from cachefl_jax.config import from_json, resolve
from cachefl_jax.data.bank import normalise
from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.deploy.model import Model, read_model
from cachefl_jax.deploy.pictures import features_of, images_of
from cachefl_jax.deploy.predict import predict
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.report.explained import Explained, Key, Near, Page
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, key_features
from cachefl_jax.simulation.keys import chosen_of, member_rows
from cachefl_jax.simulation.prepare import templates_of
from cachefl_jax.simulation.server_set import load_all
from cachefl_jax.storage.first_cache import read_cache
from cachefl_jax.storage.run_files import read_config
from cachefl_jax.synthesis.origins import origins
from cachefl_jax.synthesis.selection import Selected, Set

CLOSE = 1e-3  # features of the same image on another kind of device differ by less


class Start(NamedTuple):
    """A run's model, and what its keys were before round 1."""

    workdir: pathlib.Path
    model: Model
    checkpoint: str | None  # where the CLIP lies now, if not where it lay then
    images: LabelledImages  # the server's
    selected: Selected  # the keys at round 0, and the images of which each is made


def read_start(workdir: pathlib.Path, checkpoint: str | None = None) -> Start:
    """A finished run's model, and the server's images that its keys are made of.

    Raises UsageError: the folder holds no finished run on images with a cache, or the server's images are others by
    now."""
    config = stored(workdir)
    if config.data.name == "feature_bank":
        found = f"{workdir} (a run on a feature bank, whose images are not known)"
        raise UsageError("--workdir", found, "a run on images", "cachefl predict tells the nearest keys of features")
    file = workdir / find_method(config.method).file
    if not file.is_file():
        found = f"{workdir} (no {file.name})"
        raise UsageError("--workdir", found, "a finished run's folder", "repeat the run's command to its end")
    model = read_model(file)
    if model.keys is None:
        found = f"{workdir} (of the method {config.method}, which has no cache)"
        raise UsageError("--workdir", found, "a run of a method with a cache, such as cachefl", "name another run")
    if checkpoint:
        config.clip.checkpoint = checkpoint
    images, selected = selected_again(resolve(config), model)
    keys, _ = read_cache(workdir / "cache_init.safetensors")
    if keys.shape != selected.keys.shape or np.abs(keys - selected.keys).max() > CLOSE:
        found = f"{workdir} (its keys started from other images than its config gives by now)"
        raise UsageError("--workdir", found, "a run whose server's images are as they were", "bring them back")
    return Start(workdir, model, checkpoint, images, selected)


def stored(workdir: pathlib.Path) -> ConfigDict:
    """The config of a run's folder. Raises UsageError: it is none."""
    if not (workdir / "config.json").is_file():
        raise UsageError("--workdir", f"{workdir} (no config.json)", "a run's folder", "run an experiment first")
    return from_json(read_config(workdir / "config.json"))


def selected_again(config: ConfigDict, model: Model) -> tuple[LabelledImages, Selected]:
    """(the server's images, the keys that are chosen among them); features come out of the store where it has them."""
    source, images, _ = load_all(config)
    if source.class_names != model.class_names:
        raise UsageError("data", "other classes than the run's", "the run's own data", "bring them back")
    clip, name = config.clip, config.data.name
    checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
    text = class_weights(checkpoint, source.class_names, templates_of(config, source), f"{name}, class names")
    views = Views(clip.key_views, clip.views_seed) if clip.key_views else None
    features = key_features(checkpoint, images, f"{name}, synthetic", views)
    return images, chosen_of(config, Set(features, images.labels, text.arrays["text_features"], images.real))


def explanations(start: Start, files: Sequence[str], nearest: int) -> Page:
    """What the page shows of image files.

    Raises UsageError: an image has no feature, or the checkpoint is another by now."""
    model, shown = start.model, images_of(files)
    found = predict(model, features_of(model, files, start.checkpoint), nearest)
    places = np.unique(found.nearest)
    keys = dict(zip(places.tolist(), keys_at(start, places), strict=True))
    classes = model.class_names
    explained = tuple(
        Explained(
            name,
            classes[best],
            float(probabilities[best]),
            tuple(Near(keys[place], float(cosine)) for place, cosine in zip(near.tolist(), cosines, strict=True)),
        )
        for name, best, probabilities, near, cosines in zip(
            files, found.predicted, found.probabilities, found.nearest, found.similarity, strict=True
        )
    )
    return Page(start.workdir.resolve().name, model.told["method"], shown, explained, start.images)


def keys_at(start: Start, places: np.ndarray) -> list[Key]:
    """The keys of these numbers, N K in a row, and where they came from."""
    per_class = start.model.keys.shape[1]
    numbers = [divmod(place, per_class) for place in places.tolist()]
    members = [tuple(start.selected.members[label][key].tolist()) for label, key in numbers]
    rows = member_rows([[np.array(each) for each in members]])
    known = dict(zip(rows.tolist(), origins(select(start.images, rows)), strict=True))
    width = start.model.width
    tuned, first = (normalise(keys.reshape(-1, width)[places]) for keys in (start.model.keys, start.selected.keys))
    return [
        Key(start.model.class_names[label], key, float(cosine), of_key, tuple(known[row] for row in of_key))
        for (label, key), cosine, of_key in zip(numbers, (tuned * first).sum(axis=1), members, strict=True)
    ]
