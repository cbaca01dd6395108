"""Reading what a run left in its workdir, with every doubt raised before anything is drawn."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax import files
from cachefl_jax.errors import UsageError
from cachefl_jax.report import units

METHOD = "cachefl"  # what the rounds train unless the config says otherwise
RERUN = "repeat the run's own command with this --workdir; it finishes what is missing"
NUMBERS_OF_A_ROUND = (
    "test_accuracy", "validation_accuracy", "train_loss", "bytes_up", "bytes_down", "seconds", "cohort",
)  # fmt: skip


class Run(NamedTuple):
    """One workdir, read. The images are None for a run that never saw any (a feature bank)."""

    name: str  # the workdir's own name, without the path to it
    config: dict[str, Any]
    rounds: list[dict[str, Any]]  # in the order of their "round"
    summary: dict[str, Any]
    class_counts: np.ndarray  # [C, N] int64, samples of a class at a client
    synthetic: np.ndarray | None  # [N, k, H, W, 3] uint8
    real: np.ndarray | None  # [N, k, H, W, 3] uint8, of another size than the synthetic ones

    @property
    def class_names(self) -> list[str]:
        return self.summary["dataset"]["class_names"]

    @property
    def method(self) -> str:
        """The method that the rounds trained: the one that the report is about."""
        return self.config.get("method", METHOD)


def read_runs(workdirs: Sequence[pathlib.Path]) -> list[Run]:
    """Reads each workdir; runs whose directories share a name are told apart by a number.

    Raises:
        UsageError: there is no workdir, or a file in one is missing, corrupt or at odds with another.
    """
    if not workdirs:
        raise UsageError("workdir", "none", "one workdir or more", "name one: --workdir=DIR")
    runs = [read_run(pathlib.Path(workdir)) for workdir in workdirs]
    names = [run.name for run in runs]
    taken = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [
        run._replace(name=f"{run.name} ({count})") if names.count(run.name) > 1 else run
        for run, count in zip(runs, taken, strict=True)
    ]


def read_run(workdir: pathlib.Path) -> Run:
    """Reads one workdir (see :func:`read_runs`)."""
    if not workdir.is_dir():
        raise UsageError("workdir", workdir.as_posix(), "a directory that a run wrote", "check the path")
    config = read_json(workdir / "config.json")
    summary = read_json(workdir / "summary.json")
    check_summary(workdir / "summary.json", summary)
    classes = len(summary["dataset"]["class_names"])
    synthetic, real = read_images(workdir / "images.npz", classes)
    # A run that compares only methods without rounds leaves no metrics.
    has_rounds = config.get("method", METHOD) in summary["methods"]
    return Run(
        name=workdir.resolve().name,
        config=config,
        rounds=read_rounds(workdir / "metrics.jsonl") if has_rounds else [],
        summary=summary,
        class_counts=read_class_counts(workdir / "partition.npz", classes),
        synthetic=synthetic,
        real=real,
    )


def require(holds: bool, path: pathlib.Path, found: str, allowed: str) -> None:
    if not holds:
        raise UsageError(f"workdir: {path}", found, allowed, RERUN)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    require(path.is_file(), path, "missing", "a file that a run wrote")
    fields = files.read_json(path)
    require(isinstance(fields, dict), path, type(fields).__name__, "a JSON object")
    return fields


def check_summary(path: pathlib.Path, summary: dict[str, Any]) -> None:
    for name in ("dataset", "methods"):
        require(isinstance(summary.get(name), dict), path, f"{name} = {summary.get(name)!r}", "an object")
    names = summary["dataset"].get("class_names")
    named = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    require(bool(named), path, f"dataset.class_names = {names!r}", "a list of at least one name")
    for name, method in summary["methods"].items():
        require(isinstance(method, dict), path, f"methods.{name} = {method!r}", "an object")
    model = summary.get("whole_model")
    sized = isinstance(model, dict) and bool(units.number(model, "bytes"))
    require(model is None or sized, path, f"whole_model = {model!r}", "null or an object with its name and bytes")


def read_rounds(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl by round. A resumed run may repeat a round; the later line is the one that counts."""
    require(path.is_file(), path, "missing", "a file that a run wrote")
    rounds = {}
    for index, line in enumerate(path.read_bytes().splitlines(), start=1):
        row = read_line(path.with_name(f"{path.name}, line {index}"), line)
        rounds[row["round"]] = row
    return [rounds[index] for index in sorted(rounds)]


def read_line(place: pathlib.Path, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    whole = isinstance(row, dict) and isinstance(row.get("round"), int)
    require(whole, place, repr(line[:80]), 'a JSON object with "round"')
    return row | {name: units.number(row, name) for name in NUMBERS_OF_A_ROUND}


def read_class_counts(path: pathlib.Path, classes: int) -> np.ndarray:
    """Who holds what, [C, N], checked against the offsets beside it."""
    arrays = read_arrays(path, ("offsets", "class_counts"))
    offsets, counts = arrays["offsets"], arrays["class_counts"]
    shaped = counts.ndim == 2 and len(counts) > 0 and counts.shape[1] == classes
    integral = counts.dtype.kind in "iu" and offsets.dtype.kind in "iu"
    require(shaped and integral, path, f"class_counts {counts.dtype}{list(counts.shape)}", f"int [clients, {classes}]")
    agree = offsets.shape == (len(counts) + 1,) and np.array_equal(np.diff(offsets), counts.sum(axis=1))
    require(agree and bool(counts.min() >= 0), path, "offsets that do not add up to class_counts", "one and the same")
    return counts


def read_images(path: pathlib.Path, classes: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The synthetic and the real images; None and None where the run left none."""
    if not path.exists():
        return None, None
    arrays = read_arrays(path, ("synthetic", "real"))
    for name, images in arrays.items():
        shaped = images.ndim == 5 and len(images) == classes and images.shape[-1] == 3 and images.dtype == np.uint8
        found = f"{name} {images.dtype}{list(images.shape)}"
        require(shaped, path, found, f"uint8 [{classes} classes, images, height, width, 3]")
    return arrays["synthetic"], arrays["real"]


def read_arrays(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    require(path.is_file(), path, "missing", "a file that a run wrote")
    arrays = files.read_arrays("workdir", path)
    missing = [name for name in names if name not in arrays]
    require(not missing, path, f"no {' and no '.join(missing)}", f"an .npz with {' and '.join(names)}")
    return {name: arrays[name] for name in names}
