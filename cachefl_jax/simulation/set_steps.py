"""The stage that makes the server's set, step by step: prompts, draw, score, select, measure, look, account.

Each step reads what the store has, computes what is missing, and leaves a file in the folder. All come from the same
functions as a run's own set, so what is shown is what a run of this config would take.
"""

import functools
import json
import pathlib
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.data import FeatureBank, Split
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.report import synthetic_set
from cachefl_jax.report.page import fill
from cachefl_jax.simulation import keys
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features, key_features
from cachefl_jax.simulation.prepare import key_views, templates_of
from cachefl_jax.simulation.server_prompts import prompts_json, prompts_words
from cachefl_jax.simulation.server_set import load_all, synthesis_request, texts_of
from cachefl_jax.simulation.set_files import copy_set, place_of, scores_csv, selection_of
from cachefl_jax.storage.files import write_json, write_whole
from cachefl_jax.synthesis import datasheet, measures, obtain
from cachefl_jax.synthesis.licence import Terms, fetch_card, terms_of
from cachefl_jax.synthesis.origins import Origin, origins
from cachefl_jax.synthesis.pipeline import find_pipeline
from cachefl_jax.synthesis.records import Candidate, Facts, as_jsonl, costs, drawn_words
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
        return origins(self.images)

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
        terms = self.terms(name) if self.drawn else None
        return Facts(synthesis.source, about, terms, name, self.class_names, synthesis.price_gpu_hour)

    @staticmethod
    def terms(name: str) -> Terms:
        directory = find_pipeline(name)
        fetch_card(name, directory)
        return terms_of(directory)

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
        files = [pathlib.Path(each.name) if getattr(images.images, "files", False) else None for each in self.origins]
        found = []
        for row, (label, origin, file) in enumerate(zip(images.labels.tolist(), self.origins, files, strict=True)):
            place = place_of(row, self.class_names[label], file)
            found.append(Candidate(label, origin, file, bool(real[row]), tuple(part[row]), place))
        return found


def prompts(stage: Stage) -> str:
    """prompts.json, which a person can change and name as synthesis.prompts_file."""
    if not stage.drawn:
        return f"prompts: none, synthesis.source={stage.config.synthesis.source} draws nothing"
    found = prompts_json(stage.config, *texts_of(stage.config.data))
    write_json(stage.workdir / "prompts.json", found)
    return f"prompts: {prompts_words(found)}"


def draw(stage: Stage) -> str:
    """The images, into the store."""
    if not stage.drawn:
        return f"draw: nothing, synthesis.source={stage.config.synthesis.source}"
    return drawn_words(obtain(stage.request).manifest)


def score(stage: Stage) -> str:
    """scores.csv: what the run's encoder, and plain statistics, say of each image."""
    table = stage.table
    write(stage, "scores.csv", scores_csv(stage.origins, stage.images.labels, stage.class_names, table))
    wrong = int((table.margin < 0).sum())
    return f"score: {wrong:,} of {len(stage.origins):,} images are nearer to another class's text than to their own's"


def select(stage: Stage) -> str:
    """selection.json: which images the keys of each class are made of."""
    found = selection_of(stage.selected, stage.origins, stage.class_names)
    rule = stage.config.synthesis.selection
    write_json(stage.workdir / "selection.json", {"rule": rule, "keys": found})
    rows = len(keys.member_rows(stage.selected.members))
    count = stage.config.cache.keys_per_class
    return f"select: {count:,} keys a class by synthesis.selection={rule}, of {rows:,} of {len(stage.origins):,} images"


def measure(stage: Stage) -> str:
    """measures.json: the set beside the real validation images, in the encoder's space."""
    write_json(stage.workdir / "measures.json", stage.measures)
    flags = stage.measures["flags"]
    told = "".join(f"\n  {flag['text']}" for flag in flags[:10])
    more = f"\n  and {len(flags) - 10:,} more" if len(flags) > 10 else ""
    return f"measure: {len(flags):,} flags{told}{more}"


def look(stage: Stage) -> str:
    """set.html, on which a person marks what is wrong."""
    view = synthetic_set.View(
        title=stage.config.data.name, class_names=stage.class_names, images=stage.images, origins=stage.origins,
        scores=stage.table, members=stage.selected.members, fingerprint=stage.images.fingerprint,
        reviews=reviews_of(stage),
    )  # fmt: skip
    synthetic_set.write_page(stage.workdir / "set.html", view)
    return f"look: open {(stage.workdir / 'set.html').absolute()}, mark what is wrong, save review.json"


def reviews_of(stage: Stage) -> list[str]:
    """What reviews left out of the set, a sentence each."""
    return [note for note in stage.loaded[0].notes if note.startswith("synthesis.review:")]


def account(stage: Stage) -> str:
    """provenance.jsonl, datasheet.html and summary.json; with a copy of the images also croissant.json."""
    write(stage, "provenance.jsonl", as_jsonl(stage.facts, stage.candidates))
    name = stage.config.data.name
    reviews = reviews_of(stage)
    found = datasheet.sections(stage.facts, stage.candidates, reviews, stage.measures)
    title = f"{len(stage.candidates):,} images of {len(stage.class_names):,} classes for {name}"
    write(stage, "datasheet.html", fill("datasheet", name=name, title=title, sections=found).encode())
    spent = costs(stage.facts, len(stage.candidates))
    about = {"source": stage.facts.source, "digest": stage.images.fingerprint, "reviews": reviews}
    write_json(stage.workdir / "summary.json", about | {"cost": spent, "measures": stage.measures["all"]})
    told = (
        f"account: {datasheet.cost_words(spent)}" if stage.drawn else "account: what the images cost is not known here"
    )
    if stage.copy:
        copy_set(stage.workdir, stage.facts, stage.candidates, stage.images)
        told += f"\ncopied to {stage.workdir / 'images'}, described in croissant.json"
    return told


def write(stage: Stage, name: str, text: bytes) -> None:
    write_whole(stage.workdir / name, lambda file: file.write(text))


STEPS: dict[str, Callable[[Stage], str]] = {
    "prompts": prompts, "draw": draw, "score": score, "select": select,
    "measure": measure, "look": look, "account": account,
}  # fmt: skip


def run_steps(config: ConfigDict, workdir: pathlib.Path, until: str, copy: bool = False) -> None:
    """Runs the steps up to `until` and prints what each did.

    Raises UsageError: whatever a step refuses; what earlier steps wrote stays."""
    stage = Stage(config, workdir, copy)
    workdir.mkdir(parents=True, exist_ok=True)
    write(stage, "config.json", json.dumps(config.to_dict(), indent=2).encode() + b"\n")
    for name, step in STEPS.items():
        print(step(stage), flush=True)
        if name == until:
            return
