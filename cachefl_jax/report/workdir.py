"""Reading what a run left in its workdir, with every doubt raised before anything is drawn."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.data.card import Cells, cells_of
from cachefl_jax.data.partition import Partition, partition_hash
from cachefl_jax.errors import UsageError
from cachefl_jax.storage import archive
from cachefl_jax.storage.checked_json import AGAIN
from cachefl_jax.storage.run_files import TRAINED, compared_folder, parse_round, read_card, read_config, read_summary


class Run(NamedTuple):
    """One workdir, read. The images are None for a run that never saw any (a feature bank)."""

    name: str  # the workdir's own name, without the path to it
    config: dict[str, Any]
    rounds: list[dict[str, Any]]  # in the order of their "round"
    summary: dict[str, Any]
    cells: Cells | None  # samples of a class at a client; None of a pilot, whose sites do not tell
    card: dict[str, Any] | None  # partition.json; None for a run that wrote none
    synthetic: np.ndarray | None  # [N, k, H, W, 3] uint8
    real: np.ndarray | None  # [N, k, H, W, 3] uint8, of another size than the synthetic ones
    compared: Mapping[str, list[dict[str, Any]]] = {}  # rounds of other methods that were federated, by their rows

    @property
    def sites(self) -> list[dict[str, Any]]:
        """Name, rows and rounds of each site of a pilot; none of a run, whose clients are simulated."""
        return (self.summary.get("pilot") or {}).get("sites", [])

    @property
    def class_names(self) -> list[str]:
        return self.summary["dataset"]["class_names"]

    @property
    def client_names(self) -> list[str]:
        """The names of the clients, where they have any."""
        return (self.card or {}).get("client_names", [])

    @property
    def method(self) -> str:
        """The method that the rounds trained: the one that the report is about."""
        return trained(self.config, self.summary)


def trained(config: dict[str, Any], summary: dict[str, Any]) -> str:
    """What the summary calls the method that the rounds trained."""
    return summary.get("method") or config.get("method", TRAINED)


def read_runs(workdirs: Sequence[pathlib.Path]) -> list[Run]:
    """Reads each workdir; runs whose directories share a name are told apart by a number.

    Raises UsageError: there is no workdir, or a file in one is missing, corrupt or at odds with another."""
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
    config, summary = read_config(workdir / "config.json"), read_summary(workdir / "summary.json")
    classes = len(summary["dataset"]["class_names"])
    synthetic, real = read_images(workdir / "images.npz", classes)
    cells = card = None
    if not summary.get("pilot"):
        arrays, cells = read_partition(workdir / "partition.npz", classes)
        card = card_of(workdir / "partition.json", arrays)
    # A run that compares only methods without rounds leaves no metrics.
    main, methods = trained(config, summary), summary["methods"]
    others = (name for name, entry in methods.items() if entry.get("regime") == "federated" and name != main)
    return Run(
        name=workdir.resolve().name,
        config=config,
        rounds=read_rounds(workdir / "metrics.jsonl") if main in methods else [],
        summary=summary,
        cells=cells,
        card=card,
        synthetic=synthetic,
        real=real,
        compared={name: read_rounds(compared_folder(workdir, name) / "metrics.jsonl") for name in others},
    )


def require(holds: bool, path: pathlib.Path, found: str, allowed: str) -> None:
    if not holds:
        raise UsageError(f"workdir: {path}", found, allowed, AGAIN)


def read_rounds(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl by round. A resumed run may repeat a round; the later line is the one that counts."""
    require(path.is_file(), path, "missing", "a file that a run wrote")
    rounds = {}
    for index, line in enumerate(path.read_bytes().splitlines(), start=1):
        row = parse_round(line, f"{path}, line {index}")
        rounds[row["round"]] = row
    return [rounds[index] for index in sorted(rounds)]


def read_partition(path: pathlib.Path, classes: int) -> tuple[dict[str, np.ndarray], Cells]:
    """partition.npz, and who holds what by it, checked against the offsets beside it."""
    arrays = read_arrays(path, ("offsets",), ("indices", "class_counts", "cells", "cell_counts"))
    offsets, counts = arrays["offsets"], arrays.get("class_counts")
    held = [counts] if counts is not None else [arrays.get("cells"), arrays.get("cell_counts")]
    whole = all(array is not None and array.dtype.kind in "iu" for array in (offsets, *held))
    require(whole and offsets.ndim == 1, path, "not whole numbers", "int offsets, and class_counts or cells")
    if counts is not None:
        shaped = counts.ndim == 2 and len(counts) > 0 and counts.shape[1] == classes and counts.min() >= 0
    else:
        shaped = held[0].ndim == 1 and held[0].shape == held[1].shape and held[0].size > 0
        shaped = shaped and min(part.min() for part in held) >= 0 and held[0].max() < (len(offsets) - 1) * classes
    shapes = " and ".join(str(list(array.shape)) for array in held)
    require(bool(shaped), path, f"counts {shapes}", f"[clients, {classes}], or as many cells as counts of them")
    rows = arrays.get("indices", offsets)
    require(rows.dtype.kind in "iu" and rows.ndim == 1, path, f"indices {rows.dtype}{list(rows.shape)}", "int, [n]")
    cells = cells_of(arrays, len(offsets) - 1 if counts is None else len(counts), classes)
    agree = len(offsets) == cells.clients + 1 and np.array_equal(np.diff(offsets), cells.sizes)
    require(agree, path, "offsets that do not add up to the counts", "one and the same")
    return arrays, cells


def card_of(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """partition.json, checked against partition.npz; None where the run wrote none."""
    if not path.exists():
        return None
    card = read_card(path)
    if "indices" in arrays:
        found = partition_hash(Partition(arrays["offsets"], arrays["indices"]))
        require(card["hash"] == found, path, f"hash {card['hash']}", f"{found}, that of partition.npz beside it")
    clients, names = len(arrays["offsets"]) - 1, card.get("client_names")
    require(names is None or len(names) == clients, path, "client_names of others", f"{clients} names, one a client")
    return card


def read_images(path: pathlib.Path, classes: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The synthetic and the real images; None and None where the run left none."""
    if not path.exists():
        return None, None
    arrays = read_arrays(path, ("synthetic", "real"))
    for name in ("synthetic", "real"):
        images = arrays[name]
        shaped = images.ndim == 5 and len(images) == classes and images.shape[-1] == 3 and images.dtype == np.uint8
        found = f"{name} {images.dtype}{list(images.shape)}"
        require(shaped, path, found, f"uint8 [{classes} classes, images, height, width, 3]")
    return arrays["synthetic"], arrays["real"]


def read_arrays(path: pathlib.Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays ``names`` of an .npz, which must be there, and those ``optional`` ones that are."""
    require(path.is_file(), path, "missing", "a file that a run wrote")
    arrays = archive.read_arrays("workdir", path, (*names, *optional), AGAIN)
    missing = [name for name in names if name not in arrays]
    require(not missing, path, f"no {' and no '.join(missing)}", f"an .npz with {' and '.join(names)}")
    return arrays
