"""What a run leaves in its folder, and how a second start finds its way through it."""

import json
import os
import pathlib
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import differences, from_json
from cachefl_jax.errors import UsageError
from cachefl_jax.files import naming, write_arrays, write_json, write_tensors, write_whole
from cachefl_jax.run_files import parse_round, read_card, read_config


class Workdir:
    """The files of one run, by name. All processes of a run read them, and only those with `writes` write."""

    def __init__(self, path: pathlib.Path, writes: bool = True):
        self.path, self.writes = path, writes
        self.config = path / "config.json"
        self.partition = path / "partition.npz"
        self.partition_card = path / "partition.json"
        self.images = path / "images.npz"
        self.metrics = path / "metrics.jsonl"
        self.engine = path / "engine.json"
        self.baselines = path / "baselines.json"
        self.summary = path / "summary.json"
        self.checkpoints = path / "checkpoints"
        self.cache_init = path / "cache_init.safetensors"
        self.cache = path / "cache.safetensors"

    def refuse_others(self, config: ConfigDict) -> None:
        """Stops unless the folder is new, empty, or holds this very config.

        Raises:
            UsageError: it holds another config (the fields that differ are named), or files that are no run's.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("--workdir", str(self.path), "a folder", "this is a file: name another")
        if self.config.is_file():
            theirs, ours = resolved(from_json(read_config(self.config))), resolved(config)
            fields = differences(theirs, ours)
            if fields:
                shown = ", ".join(f"{name} {at(theirs, name)} there, {at(ours, name)} here" for name in fields)
                value = f"{self.path} with another config ({shown})"
                raise UsageError("--workdir", value, "a new folder, or the same config", "name another folder")
        elif self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            value = f"{self.path} with files but no config.json"
            raise UsageError("--workdir", value, "a new or empty folder, or a run's", "name another folder")

    def refuse_read_only(self) -> None:
        """Stops where the folder cannot be written, before anything is computed.

        Raises:
            UsageError: it, or the folder above that it would be made in, may not be written.
        """
        above = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            found = f"{self.path} ({above} is {'not to be written' if above.is_dir() else 'a file'})"
            raise UsageError("--workdir", found, "a folder that can be written", "name another")

    def refuse_other_rows(self, card: dict) -> None:
        """Stops where the folder's run had other rows, or dealt them out otherwise, than `card` tells.

        Raises:
            UsageError: both hashes are named.
        """
        if not self.partition_card.is_file():
            return
        theirs = read_card(self.partition_card)
        for name, what in (("hash", "partition"), ("features", "features")):
            before, now = str(theirs.get(name))[:16], str(card[name])[:16]
            if before != now:
                value = f"{self.path} with a run on other training rows ({what} {before}, now {now})"
                mend = "bring the data back as they were, or name another folder"
                raise UsageError("--workdir", value, "the data that the run began with", mend)

    def append_metrics(self, records: list[dict]) -> None:
        """Adds a line for each; a line cut short by a kill is dropped by `keep_metrics`."""
        if self.writes:
            with naming(self.metrics), self.metrics.open("a") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)

    def read_metrics(self) -> list[dict]:
        """The whole lines, in order.

        Raises:
            UsageError: one is damaged; the last may be cut short by a kill, and is left out.
        """
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_bytes().splitlines(keepends=True)
        places = (f"{self.metrics}, line {number}" for number in range(1, len(lines) + 1))
        return [parse_round(line, place) for line, place in zip(lines, places, strict=True) if line.endswith(b"\n")]

    def keep_metrics(self, rounds: int) -> list[dict]:
        """Drops what was written after the checkpoint of round `rounds`, and returns what stays."""
        kept = [record for record in self.read_metrics() if record["round"] <= rounds]
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept)
        if self.writes:
            write_whole(self.metrics, lambda file: file.write(text.encode()))
        return kept

    def write_json(self, path: pathlib.Path, value: dict) -> None:
        if self.writes:
            write_json(path, value)

    def write_inputs(self, config: ConfigDict, partition: dict, card: dict, images: Callable | None) -> None:
        """The config first, which marks the folder as this run's; then who holds what, and images to look at, which
        are decoded once."""
        if not self.writes:
            return
        write_json(self.config, resolved(config))
        write_arrays(self.partition, partition)
        write_json(self.partition_card, card)
        if images is not None and not self.images.is_file():
            write_arrays(self.images, images())

    def write_cache(self, path: pathlib.Path, keys: np.ndarray, frozen, class_names: tuple[str, ...]) -> None:
        """The artefact that a user deploys: keys [N, K, D] float32, and what the formula needs besides, as JSON
        strings."""
        metadata = {
            "alpha": json.dumps(round_trip(frozen.alpha)),
            "beta": json.dumps(round_trip(frozen.beta)),
            "logit_scale": json.dumps(round_trip(frozen.logit_scale)),
            "class_names": json.dumps(list(class_names)),
        }
        if self.writes:
            write_tensors(path, {"keys": np.asarray(keys, np.float32)}, metadata)


def resolved(config: ConfigDict) -> dict:
    """The config as JSON holds it: plain dicts and lists."""
    return json.loads(json.dumps(config.to_dict()))


def at(config: dict, field: str):
    """The value at a dotted path, or 'nothing'."""
    for name in field.split("."):
        config = config.get(name, "nothing") if isinstance(config, dict) else "nothing"
    return config


def round_trip(value) -> float:
    """A float32 in the fewest digits that read back as the same float32."""
    return float(str(np.float32(value)))
