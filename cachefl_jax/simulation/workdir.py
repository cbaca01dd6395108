"""What a run leaves in its folder, and how a second start finds its way through it."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import ROUNDS_BEFORE, Row, from_json, rows_of
from cachefl_jax.config.as_json import resolved
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.simulation.made_of import CODE, changes, files_of, named_parts
from cachefl_jax.simulation.metrics import as_one_run, read_lines, to_text
from cachefl_jax.simulation.more import more, refuse_other_config
from cachefl_jax.storage.files import naming, write_arrays, write_json, write_tensors, write_whole
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.storage.run_files import PILOT, compared_folder, file_name, read_card, read_config, read_inputs

NOWHERE = pathlib.Path(os.devnull)  # below a file nothing is ever found


class Workdir:
    """The files of one run, by name. All processes of a run read them, and only those with `writes` write.

    Args:
        path: the folder; None: there is none, so that nothing is found, and nothing written.
        writes: whether this process writes.
    """

    def __init__(self, path: pathlib.Path | None, writes: bool = True):
        self.path, self.writes = path or NOWHERE, writes and path is not None
        path = self.path
        self.config = path / "config.json"
        self.partition = path / "partition.npz"
        self.partition_card = path / "partition.json"
        self.images = path / "images.npz"
        self.metrics = path / "metrics.jsonl"
        self.engine = path / "engine.json"
        self.baselines = path / "baselines.json"
        self.inputs = path / "inputs.json"
        self.sites = path / "sites.json"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.audit, self.audit_page = path / "audit.json", path / "audit.html"
        self.checkpoints = path / "checkpoints"
        self.cache_init = path / "cache_init.safetensors"

    def of(self, config: ConfigDict, row: Row) -> "Workdir":
        """Where a federated row has its rounds: config.method's here, any other in a folder of its own."""
        if row.method == config.method or self.path == NOWHERE:
            return self
        return Workdir(compared_folder(self.path, row.name), self.writes)

    def finished_clients(self, row: Row) -> pathlib.Path:
        """The clients that are finished of a row whose clients never aggregate, until all are."""
        return self.path / f"{file_name(row.name)}.npz"

    def refuse_others(self, config: ConfigDict) -> None:
        """Stops unless the folder is new, empty, or holds this very config, if need be with fewer rounds or rows.

        Raises UsageError: it holds another config (the fields that differ are named), more rounds, or files that are no
        run's."""
        self.refuse_pilot()
        refuse_other_files(self.path, self.config, "a run's")
        if self.config.is_file():
            refuse_other_config(self.path, self.stored_config(), config)

    def refuse_pilot(self) -> None:
        """Stops at the folder of a pilot, whose sites have the rows. Raises UsageError: it is one."""
        if (self.path / PILOT).is_file():
            mend = "name another; cachefl report, evaluate and predict take a pilot's"
            raise UsageError("--workdir", f"{self.path} (a pilot's)", "a folder of the simulator's", mend)

    def refuse_read_only(self) -> None:
        """Stops where the folder cannot be written, before anything is computed.

        Raises UsageError: it, or the folder above that it would be made in, may not be written."""
        above = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            found = f"{self.path} ({above} is {'not to be written' if above.is_dir() else 'a file'})"
            raise UsageError("--workdir", found, "a folder that can be written", "name another")

    def stored_config(self) -> ConfigDict:
        """The config that the folder's run was begun with."""
        return from_json(read_config(self.config))

    def finished(self, config: ConfigDict) -> bool:
        """Whether all that a run of this config leaves is there; the folder is known to be that run's."""
        left = [self.config, self.partition, self.partition_card, self.cache_init, self.summary, self.report]
        for row in (row for row in rows_of(config) if row.regime == "federated"):
            left += [self.of(config, row).path / find_method(row.method).file, self.of(config, row).metrics]
        return all(path.is_file() for path in left) and not more(self.stored_config(), config)

    def refuse_other_data(self, parts: dict[str, str]) -> None:
        """Stops where the folder's run was made of other data than `parts` (`made_of`), or dealt them out otherwise.
        Code that it did not name is that of rows which are added.

        Raises UsageError: the parts that differ are named."""
        if self.inputs.is_file():
            before = read_inputs(self.inputs)["parts"]
            parts = {name: part for name, part in parts.items() if name in before or not name.startswith(CODE)}
        elif self.partition_card.is_file():  # an older version's run: who holds what is all that it tells
            before, parts = {"partition": read_card(self.partition_card)["hash"]}, {"partition": parts["partition"]}
            if self.begun():
                told = "the run began before inputs.json was written: only the partition is known to be the same"
                print(f"{self.path}: {told}", file=sys.stderr)
        else:
            return
        refuse_changes(self.path, before, parts)

    def refuse_other_code(self, config: ConfigDict) -> None:
        """Stops where a user's components have other code by now than the folder's run had; of another component
        nothing is known. Raises UsageError: those that differ are named."""
        before = read_inputs(self.inputs)["parts"] if self.inputs.is_file() else {}
        now = {name: code for name, code in named_parts(config).items() if name in before}
        refuse_changes(self.path, {name: before[name] for name in now}, now)

    def check_done(self, config: ConfigDict) -> None:
        """Stops where a finished run's data are others by now. Files whose times are as they were are not read.

        Raises UsageError: as `refuse_other_data`, or data that have changed cannot be read."""
        if not self.inputs.is_file():
            return
        before, now = read_inputs(self.inputs)["files"], files_of(config)
        gone = sorted(before.keys() - now.keys())
        tell_gone(self.path, gone)
        if not gone and before != now:
            from cachefl_jax.simulation.prepare import parts_of  # brings what a look at times can do without

            self.refuse_other_data(parts_of(config))

    def begun(self) -> bool:
        """Whether something has been trained here."""
        return self.baselines.is_file() or self.checkpoints.is_dir()

    def remove_leftovers(self) -> None:
        """Removes what a killed run left half-written; under the folder's lock."""
        names = [path.name for path in vars(self).values() if isinstance(path, pathlib.Path) and path != self.path]
        for folder in (self.path, *self.path.glob("compared/*")):
            remove_leftovers(folder, names)
            remove_leftovers(folder / self.checkpoints.name)

    def append_metrics(self, records: list[dict]) -> None:
        """Adds a line for each; a line cut short by a kill is dropped by `keep_metrics`."""
        if self.writes:
            with naming(self.metrics), self.metrics.open("a") as file:
                file.write(to_text(records))

    def keep_metrics(self, rounds: int, config: ConfigDict) -> list[dict]:
        """Drops what was written after the checkpoint of round `rounds`, and returns what stays, as a run of this
        config writes it; the folder's may have had fewer rounds."""
        kept = as_one_run(read_lines(self.metrics)[: rounds + 1], config.rounds, config.eval_every)
        if self.writes:
            write_whole(self.metrics, lambda file: file.write(to_text(kept).encode()))
        return kept

    @contextlib.contextmanager
    def open_checkpoints(self) -> Iterator[Callable]:
        """Gives (rounds done, state) -> None, which saves a checkpoint, if there is a folder."""
        if self.path == NOWHERE:
            yield lambda number, state: None
            return
        from cachefl_jax.storage.checkpoint import open_checkpoints  # brings Orbax, which others here do without

        with open_checkpoints(self.checkpoints) as checkpoints:
            yield checkpoints.save

    def write_json(self, path: pathlib.Path, value: dict) -> None:
        if self.writes:
            write_json(path, value)

    def write_inputs(self, config: ConfigDict, partition: dict, card: dict, made_of: dict) -> None:
        """The config first, which marks the folder as this run's; then who holds what, and what it is made of."""
        if not self.writes:
            return
        stored = read_config(self.config) if self.config.is_file() else {}
        before = [rounds for rounds in as_list(stored.get(ROUNDS_BEFORE)) if isinstance(rounds, int)]
        if stored.get("rounds", config.rounds) < config.rounds:
            before.append(stored["rounds"])
        if stored and (told := more(self.stored_config(), config)):
            self.reopen(told)
        write_json(self.config, resolved(config) | ({ROUNDS_BEFORE: before} if before else {}))
        write_arrays(self.partition, partition)
        write_json(self.partition_card, card)
        write_json(self.inputs, made_of)

    def write_images(self, images: Callable | None) -> None:
        """Images to show, which are decoded once; none for a bank."""
        if self.writes and images is not None and not self.images.is_file():
            write_arrays(self.images, images())

    def reopen(self, told: str) -> None:
        """Takes away what says that the run is done: it goes on from its last checkpoint, and ends in new ones."""
        print(f"{self.path}: going on {told}", file=sys.stderr)
        self.summary.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)

    def write_artefact(self, path: pathlib.Path, arrays: dict, told: dict) -> None:
        """What a user deploys: a method's arrays, and what else they need as JSON strings."""
        metadata = {name: json.dumps(value) for name, value in told.items()}
        if self.writes:
            write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, metadata)


def own_row(config: ConfigDict) -> str | None:
    """What summary.json calls the method that the rounds train; None where it is not among what is compared."""
    return next((row.name for row in rows_of(config) if row[1:] == (config.method, "federated")), None)


def tell_gone(folder: pathlib.Path, fields: list[str]) -> None:
    """Says of which fields' files nobody knows whether they would be the same."""
    if fields:
        told = "is not there any more: whether the data are the same was not checked"
        print(f"{folder}: what {' and '.join(fields)} names {told}", file=sys.stderr)


def refuse_other_files(folder: pathlib.Path, mark: pathlib.Path, whose: str) -> None:
    """Stops where something lies in a folder that lacks the file which marks it as `whose`; hidden files are nothing.

    Raises UsageError: it does, or the folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("--workdir", str(folder), "a folder", "this is a file: name another")
    if folder.is_dir() and not mark.is_file() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        value = f"{folder} with files but no {mark.name}"
        raise UsageError("--workdir", value, f"a new or empty folder, or {whose}", "name another folder")


def refuse_changes(folder: pathlib.Path, before: dict, now: dict[str, str]) -> None:
    """Stops where what is in a folder was made of other parts than there are now.

    Raises UsageError: the parts that differ are named."""
    found = changes(before, now)
    if found:
        what = "code" if all(each.startswith(CODE) for each in found) else "data"
        value = f"{folder} with a run {'by' if what == 'code' else 'on'} other {what} ({'; '.join(found)})"
        mend = f"bring the {what} back as {'it was' if what == 'code' else 'they were'}, or name another folder"
        raise UsageError("--workdir", value, f"the {what} that the run began with", mend)


def as_list(value: object) -> list:
    return value if isinstance(value, list) else []
