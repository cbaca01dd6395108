"""The server's set that a config names, with all that the steps of its making ask of it.

Each part is made when it is first asked for, by the functions that a run takes its own set from.

Axis letters: n images, N classes, K keys a class.
"""

import functools
import pathlib

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.data import FeatureBank, Split
from cachefl_jax.data.images import LabelledImages, file_of
from cachefl_jax.simulation import keys
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features, key_features
from cachefl_jax.simulation.prepare import key_views, templates_of
from cachefl_jax.simulation.server_set import load_all, synthesis_request, texts_of
from cachefl_jax.simulation.set_files import place_of
from cachefl_jax.synthesis import measures
from cachefl_jax.synthesis.licence import terms_of_pipeline
from cachefl_jax.synthesis.origins import Origin, kept_pixels, origins
from cachefl_jax.synthesis.records import Candidate, Facts
from cachefl_jax.synthesis.scores import Table, scores
from cachefl_jax.synthesis.selection import Selected, Set


class Stage:
    """The set that a config names; each part is made when it is first asked for, and once."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, copy: bool):
        self.config, self.workdir, self.copy = config, workdir, copy

    @property
    def drawn(self) -> bool:
        """Whether a generator draws the set."""
        return self.config.synthesis.source in DRAWN

    @functools.cached_property
    def request(self):
        return synthesis_request(self.config, *texts_of(self.config.data))

    @functools.cached_property
    def loaded(self) -> tuple:
        return load_all(self.config)

    @property
    def images(self) -> LabelledImages:
        """The candidates that are left, n of them."""
        return self.loaded[1]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.loaded[0].class_names

    @functools.cached_property
    def origins(self) -> list[Origin]:
        return origins(self.images, kept_pixels(self.images))

    @functools.cached_property
    def files(self) -> list[pathlib.Path | None]:
        """Of each of n images, the file that it is; None where it is none."""
        found = (file_of(self.images.images, row) for row in range(len(self.images.labels)))
        return [pathlib.Path(file) if file else None for file in found]

    @functools.cached_property
    def places(self) -> list[str]:
        """What the files that tell of the set call each of n images."""
        rows = enumerate(zip(self.images.labels.tolist(), self.files, strict=True))
        return [place_of(row, self.class_names[label], file) for row, (label, file) in rows]

    @functools.cached_property
    def bank(self) -> FeatureBank:
        """Features of the set and of the validation images; neither training nor test images are encoded."""
        config, source = self.config, self.loaded[0]
        clip, name = config.clip, config.data.name
        checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
        weights = class_weights(checkpoint, source.class_names, templates_of(config, source), f"{name}, class names")
        views = key_views(config)
        synthetic = Split(key_features(checkpoint, self.images, f"{name}, synthetic", views), self.images.labels)
        validation = source.validation
        if validation is not None:
            features = image_features(checkpoint, validation, f"{name}, validation")
            validation = Split(features, validation.labels)
        none = Split(synthetic.features[:0], synthetic.labels[:0])
        text, scale = weights.arrays["text_features"], weights.facts["logit_scale"]
        return FeatureBank(none, validation, none, synthetic, text, source.class_names, scale, {})

    @functools.cached_property
    def table(self) -> Table:
        real, synthetic = self.images.real, self.bank.synthetic
        return scores(self.images, Set(synthetic.features, synthetic.labels, self.bank.text_features, real))

    @functools.cached_property
    def selected(self) -> Selected:
        return keys.chosen(self.config, self.bank, self.images.real)

    @functools.cached_property
    def measures(self) -> dict:
        return measures.measure(self.bank.synthetic, self.bank.validation, self.class_names)

    @functools.cached_property
    def facts(self) -> Facts:
        synthesis, about = self.config.synthesis, self.loaded[2]
        name = "pocket" if synthesis.source == "pocket" else synthesis.pipeline
        terms = terms_of_pipeline(name) if self.drawn else None
        return Facts(synthesis.source, about, terms, name, self.class_names, synthesis.price_gpu_hour)

    @functools.cached_property
    def candidates(self) -> list[Candidate]:
        """What provenance.jsonl has a line of, n of them."""
        part: list[list[int]] = [[] for _ in self.origins]
        for of_class in self.selected.members:
            for key, rows in enumerate(of_class):
                for row in rows:
                    part[row].append(key)
        images = self.images
        real = np.zeros(len(part), bool) if images.real is None else images.real
        if self.config.synthesis.source == "held_out":
            real = np.ones(len(part), bool)
        columns = images.labels.tolist(), self.origins, self.files, real.tolist(), map(tuple, part), self.places
        return [Candidate(*each) for each in zip(*columns, strict=True)]
