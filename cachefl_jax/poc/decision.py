"""decision.json: every number of the report, from what the stages left.

Axis letters: S seeds, n test rows, N classes.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.as_json import resolved
from cachefl_jax.data.classes import plain
from cachefl_jax.poc.samples import Predictions, TestRows, compared, predictions_of, standard_error
from cachefl_jax.poc.sections import image_bytes, sections
from cachefl_jax.poc.verdict import ALONE, recommended, verdict
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.study.results import Standing, Table

COUNTED = (
    "uplink_bytes_per_client_round", "downlink_bytes_per_client_round", "total_bytes", "client_flops_per_round",
    "seconds_per_round", "rounds",
)  # fmt: skip


class Found(NamedTuple):
    """What the stages left."""

    config: ConfigDict
    inputs: Inputs
    tests: TestRows
    table: Table  # of the tuned study
    predicted: Predictions
    current: np.ndarray | None  # [n] what today's model takes each test image for
    shots: Any  # Stage, or None
    left_out: Any  # Stage, or None
    run: pathlib.Path
    seconds: dict[str, float]  # by stage
    points: int  # that each row was tuned by


def decide(found: Found) -> dict[str, Any]:
    """decision.json, whose sections docs/poc.md explains."""
    config, tests, predicted = found.config, found.tests, found.predicted
    standings = {row.name: row for row in found.table.rows if row.name in predicted}
    rows = {name: row_of(each, predicted[name], tests.labels) for name, each in standings.items()}
    best = recommended(rows, config.method)
    add_comparisons(rows, predicted, tests.labels, config.method)
    facts = {
        "recommended": best, "own": config.method, "rows": rows, "current": current_of(found, rows),
        "family": family_of(found, best), "sites": sites_of(found, best), "classes": classes_of(found, best),
        "confusion": {"row": best, "counts": confusion(predicted[best][0], tests.labels, len(tests.class_names))},
        "rounds": rounds_of(found, rows, best), "left_out": left_out_of(found, best), "shots": shots_of(found),
        "data": data_of(found), "seeds": seeds_of(found), "points": found.points,
        "seconds": found.seconds, "minutes": sum(found.seconds.values()) / 60,
        "asked_minutes": config.poc.minutes, "config": resolved(config),
    }  # fmt: skip
    return {"verdict": verdict(facts)} | facts | sections(found, facts)


def seeds_of(found: Found) -> list[int]:
    first = next(iter(found.table.rows))
    return sorted(first.runs)


def row_of(row: Standing, predicted: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """A row of the table. Of each site alone, an image is judged by the model of its own site."""
    accuracy = (predicted == labels).mean(axis=1)
    label = "each site alone" if row.regime == "alone" else row.label.removesuffix(" (ours)")
    return {
        "label": label, "regime": row.regime,
        "test_accuracy": float(accuracy.mean()),
        "error": standard_error(predicted, labels),
        "std_seeds": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
        "validation_accuracy": row.average("validation_accuracy"), "values": row.values, "tried": row.tried,
        **{name: row.average(name) for name in COUNTED},
    }  # fmt: skip


def add_comparisons(rows: dict[str, dict], predicted: Predictions, labels: np.ndarray, own: str) -> None:
    """Each row against each site alone, and against config.method: two families."""
    for name, rival in (("against_alone", ALONE), ("against_own", own)):
        others = [row for row in rows if row != rival] if rival in rows else []
        told = compared([(predicted[row], predicted[rival], labels) for row in others])
        for row in rows:
            rows[row][name] = dict(zip(others, told, strict=True)).get(row)


def family_of(found: Found, best: str) -> dict[str, dict]:
    """The recommended row against each site alone, zero-shot CLIP, CacheFL and today's model: a family of their own."""
    predicted, labels = found.predicted, found.tests.labels
    names = dict.fromkeys((ALONE, "zero_shot", found.config.method))
    rivals = {name: predicted[name] for name in names if name in predicted and name != best}
    if found.current is not None:
        rivals["current"] = np.tile(found.current, (len(predicted[best]), 1))
    told = compared([(predicted[best], rival, labels) for rival in rivals.values()])
    return dict(zip(rivals, told, strict=True))


def current_of(found: Found, rows: dict[str, dict]) -> dict[str, Any] | None:
    """Today's model, and every row against it."""
    if found.current is None:
        return None
    predicted, labels = found.predicted, found.tests.labels
    told = compared([(predicted[row], np.tile(found.current, (len(predicted[row]), 1)), labels) for row in rows])
    return {
        "file": found.config.poc.current, "label": "your current model",
        "test_accuracy": float((found.current == labels).mean()), "against": dict(zip(rows, told, strict=True)),
    }  # fmt: skip


def parts_of(found: Found, best: str, masks: list[np.ndarray]) -> list[dict[str, Any]]:
    """Of each part of the test rows every row's accuracy, and what the recommended row gains over each site alone."""
    predicted, labels = found.predicted, found.tests.labels
    rival = predicted.get(ALONE, predicted[best])
    gains = compared([(predicted[best][:, mask], rival[:, mask], labels[mask]) for mask in masks])
    return [
        {"test": int(mask.sum()), "gain": gain, "rows": {
            row: float((each[:, mask] == labels[mask]).mean()) if mask.any() else None
            for row, each in predicted.items()}}
        for mask, gain in zip(masks, gains, strict=True)
    ]  # fmt: skip


def sites_of(found: Found, best: str) -> list[dict[str, Any]]:
    """Each site on its own test images."""
    tests, partition, train = found.tests, found.inputs.partition, found.inputs.source.train
    validation = found.inputs.source.validation
    numbers = np.unique(train.groups)
    parts = parts_of(found, best, [tests.sites == site for site in range(partition.clients)])
    return [
        {"name": name, "train": int(partition.sizes[site]),
         "validation": 0 if validation is None else int((validation.groups == numbers[site]).sum()),
         "image_bytes": image_bytes(train, np.flatnonzero(train.groups == numbers[site])),
         "classes": len(np.unique(train.labels[train.groups == numbers[site]])), **parts[site]}
        for site, name in enumerate(tests.site_names)
    ]  # fmt: skip


def classes_of(found: Found, best: str) -> list[dict[str, Any]]:
    """Each class on its test images, whichever site they are of."""
    tests, names = found.tests, found.tests.class_names
    train = np.bincount(found.inputs.bank.train.labels, minlength=len(names))
    parts = parts_of(found, best, [tests.labels == label for label in range(len(names))])
    return [{"name": name, "train": int(train[label]), **parts[label]} for label, name in enumerate(names)]


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[list[int]]:
    """[N, N] counts: the true class down, the predicted one across."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels[predicted >= 0], predicted[predicted >= 0]), 1)
    return counts.tolist()


def rounds_of(found: Found, named: dict[str, dict], best: str) -> dict[str, Any] | None:
    """How many rounds of config.method are enough, by validation accuracy; they are not settled where that would be the
    last tenth of them, in which accuracy still moves.

    Args:
        named: the rows with their labels and rounds.
        best: the recommended one, which may have other rounds."""
    lines = [line for line in read_lines(found.run / "metrics.jsonl") if line["test_accuracy"] is not None]
    validation = [line["validation_accuracy"] for line in lines]
    if not lines or None in validation:
        return None
    last, rows = validation[-1], len(found.inputs.bank.validation.labels)
    error = float(np.sqrt(max(last * (1 - last), 0) / rows))
    below = [place for place, each in enumerate(validation) if each < last - error]
    enough, whole = lines[below[-1] + 1 if below else 0]["round"], lines[-1]["round"]
    return {
        "row": found.config.method, "settled": enough <= 0.9 * whole, "of": whole, "seed": found.config.seed,
        "recommended": None if best == found.config.method else {
            "label": named[best]["label"], "rounds": named[best]["rounds"]},
        "evaluated": [line["round"] for line in lines], "validation": validation,
        "test": [line["test_accuracy"] for line in lines],
        "enough": enough, "error": error,
        "rule": "the first round from which on validation accuracy stays within one standard error of the last round's",
    }  # fmt: skip


def left_out_of(found: Found, best: str) -> list[dict[str, Any]] | None:
    """What the others, and the site itself, have of the recommended row without each site; by the first seed."""
    if found.left_out is None:
        return None
    tests, (study, lines), with_all = found.tests, found.left_out, found.predicted[best][0]
    told = []
    for site, setting in enumerate(study.settings):
        (without,) = predictions_of(lines, setting.name, {best: 0}, study.seeds).get(best, [None])
        masks = {"others": tests.sites != site, "own": tests.sites == site}
        told.append(
            {"site": tests.site_names[site], "with": accuracies(with_all, tests.labels, masks)}
            | {"without": accuracies(without, tests.labels, masks)}
        )
    return told


def accuracies(predicted: np.ndarray | None, labels: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, Any]:
    """On each of these parts of the test rows; None where nothing is known."""
    return {
        part: None if predicted is None or not mask.any() else float((predicted == labels)[mask].mean())
        for part, mask in masks.items()
    }


def shots_of(found: Found) -> dict[str, Any] | None:
    """Accuracy by training images a class and site, and with all of them; by the first seed."""
    if found.shots is None:
        return None
    study, lines = found.shots
    counts = [setting.overrides["partition.shots"] for setting in study.settings]
    rows: dict[str, list] = {row.name: [] for row in study.rows}
    for setting in study.settings:
        predicted = predictions_of(lines, setting.name, dict.fromkeys(rows, 0), study.seeds)
        for name, values in rows.items():
            values.append(float((predicted[name] == found.tests.labels).mean()) if name in predicted else None)
    everything = {name: float((found.predicted[name][0] == found.tests.labels).mean()) for name in rows}
    return {"shots": counts, "rows": rows, "all": everything}


def layout_of(found: Found) -> str:
    """What the folders were read as."""
    asked, tests = found.config.data.layout, found.tests
    if asked != "auto":
        return asked
    sites = {plain(name) for name in tests.site_names}
    parts = pathlib.PurePosixPath(tests.files[0]).parts[:-1]
    label = plain(tests.class_names[tests.labels[0]])
    levels = {plain(part): "site" for part in parts if plain(part) in sites} | {label: "class"}
    read = [levels[plain(part)] for part in parts if plain(part) in levels]
    return f"{'/'.join(read)}, told apart by their names" if sorted(read) == ["class", "site"] else asked


def data_of(found: Found) -> dict[str, Any]:
    """What the folders held."""
    bank, source = found.inputs.bank, found.inputs.source
    return {
        "path": found.config.data.path, "layout": layout_of(found), "classes": bank.classes,
        "sites": len(found.tests.site_names),
        "class_names": list(bank.class_names),
        "train": len(bank.train.labels), "validation": 0 if bank.validation is None else len(bank.validation.labels),
        "test": len(bank.test.labels), "notes": list(source.notes),
    }  # fmt: skip
