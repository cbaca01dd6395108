"""The stage that makes the server's set, step by step: prompts, draw, score, select, measure, look, account.

Each step reads what the store has, computes what is missing, and leaves a file in the folder. All come from the same
functions as a run's own set, so what is shown is what a run of this config would take.
"""

import json
import pathlib
import shutil
from collections.abc import Callable

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.report import synthetic_set
from cachefl_jax.report.page import fill
from cachefl_jax.simulation import keys
from cachefl_jax.simulation.server_prompts import prompts_json, prompts_words
from cachefl_jax.simulation.server_set import texts_of
from cachefl_jax.simulation.set_files import copy_set, scores_csv, selection_of
from cachefl_jax.simulation.set_stage import Stage
from cachefl_jax.storage.files import json_if_whole, write_json, write_whole
from cachefl_jax.synthesis import datasheet, obtain
from cachefl_jax.synthesis.records import as_jsonl, costs, drawn_words

MARK = "set.json"  # the config, in a folder of these steps
LEFT = (
    "prompts.json", "scores.csv", "selection.json", "measures.json", "provenance.jsonl", "datasheet.html",
    "summary.json", "images.csv", "croissant.json",
)  # fmt: skip


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
    write(stage, "scores.csv", scores_csv(stage.places, stage.origins, stage.images.labels, stage.class_names, table))
    wrong = int((table.margin < 0).sum())
    return f"score: {wrong:,} of {len(stage.origins):,} images are nearer to another class's text than to their own's"


def select(stage: Stage) -> str:
    """selection.json: which images the keys of each class are made of."""
    found = selection_of(stage.selected, stage.places, stage.class_names)
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
    spent = costs(stage.facts)
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


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes the folder, or makes sure that it is one of these steps. What they left for another config goes first; a
    review.json stays.

    Raises UsageError: it is something else, such as a run's."""
    mark, own = workdir / MARK, json.loads(json.dumps(config.to_dict()))
    if workdir.exists() and not workdir.is_dir():
        raise UsageError("--workdir", f"{workdir} (a file)", "a folder", "name another")
    if workdir.is_dir() and any(workdir.iterdir()) and not mark.is_file():
        allowed = "a new or empty folder, or one that synthesize made"
        raise UsageError("--workdir", f"{workdir} (no {MARK})", allowed, "name another")
    workdir.mkdir(parents=True, exist_ok=True)
    if json_if_whole(mark) != own:
        for path in [workdir / name for name in LEFT] + [workdir / "set.html", *workdir.glob("set-[0-9]*.html")]:
            path.unlink(missing_ok=True)
        shutil.rmtree(workdir / "images", ignore_errors=True)
        write_json(mark, own)


def run_steps(config: ConfigDict, workdir: pathlib.Path, until: str, copy: bool = False) -> None:
    """Runs the steps up to `until` and prints what each did.

    Raises UsageError: the folder holds something else, or whatever a step refuses; what earlier steps wrote stays."""
    stage = Stage(config, workdir, copy)
    claim(workdir, config)
    for name, step in STEPS.items():
        print(step(stage), flush=True)
        if name == until:
            return
