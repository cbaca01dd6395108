"""A run that was stopped, damaged or given more rounds ends as one that never was; on other data it does not go on."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import METHOD_NAMES, default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.storage.leftovers import HOST
from cachefl_jax.storage.locks import FOLDER_LOCK, folder_lock

ROUNDS = 6


def config_for(bank: pathlib.Path, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 3
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.eval_every = 2, ROUNDS, 2, 3
    config.engine.strategy, config.engine.devices, config.methods = "scan", 1, ("cachefl", "centralized")
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def bank(tmp_path_factory, make_bank_in):
    return make_bank_in(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def finished(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_and_evaluate(config_for(bank), folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run, for a test to do with as it likes."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


def unfinish(run: pathlib.Path) -> pathlib.Path:
    """As if it had been killed at its very end."""
    for name in ("summary.json", "report.html", "cache.safetensors"):
        (run / name).unlink()
    return run


def metrics(run: pathlib.Path) -> list[dict]:
    """The lines without their times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{**line, "seconds": None} for line in lines]


def snapshot(folder: pathlib.Path) -> dict:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_same_end(run: pathlib.Path, whole: pathlib.Path) -> None:
    for name in ("cache.safetensors", "cache_init.safetensors", "partition.npz"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert metrics(run) == metrics(whole)
    mine, theirs = (json.loads((folder / "summary.json").read_text())["methods"] for folder in (run, whole))
    for method, row in theirs.items():
        assert {**mine[method], "seconds_per_round": None} == {**row, "seconds_per_round": None}
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


# A lock on the folder.


@pytest.mark.parametrize("begun", [True, False])
def test_a_folder_in_which_another_command_is_at_work_is_left_as_it_is(bank, copied, tmp_path, begun):
    run = unfinish(copied) if begun else tmp_path / "new"
    with folder_lock(run):
        before = snapshot(run)
        with pytest.raises(UsageError, match=rf"--workdir: got .*in use by process {os.getpid()} on .* since 20"):
            train_and_evaluate(config_for(bank), run)
        assert snapshot(run) == before
    assert run.exists() == begun


def test_a_killed_commands_lock_is_taken_over_and_its_half_written_files_go(bank, copied, finished):
    unfinish(copied)
    (copied / FOLDER_LOCK).write_text("4194999\nsomewhere\n")
    for name in (".config.json.h5x_abcd", ".report.html.h5x_abcd"):  # of a version before names told the process
        (copied / name).write_text("half")
    train_and_evaluate(config_for(bank), copied)
    assert_same_end(copied, finished)


def test_reading_commands_do_not_wait_for_the_one_at_work(bank, copied):
    with folder_lock(copied):
        assert evaluate(config_for(bank), copied, None)["round"] == ROUNDS
        assert "already done" in told_by(config_for(bank), copied)


def told_by(config, run: pathlib.Path) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        train_and_evaluate(config, run)
    return out.getvalue()


# Metrics.


def without(*rounds: int):
    def lose(file: pathlib.Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for number, line in enumerate(lines) if number not in rounds))

    return lose


def doubled(file: pathlib.Path) -> None:
    text = file.read_text().splitlines(keepends=True)
    file.write_text("".join(text[:3] + text[1:]))


def of_another_type(file: pathlib.Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    lines[3] = json.dumps({**json.loads(lines[3]), "bytes_up": "many"}) + "\n"
    file.write_text("".join(lines))


@pytest.mark.parametrize(
    ("harm", "begin"),
    [(pathlib.Path.unlink, 0), (without(4), 2), (without(0), 0), (doubled, ROUNDS), (of_another_type, 2)],
    ids=["gone", "a gap", "no first line", "lines twice", "a field of another type"],
)
def test_lost_metrics_are_trained_again_and_totals_stay(bank, copied, finished, harm, begin):
    harm(unfinish(copied) / "metrics.jsonl")
    told = told_by(config_for(bank), copied)
    assert (f"resuming after round {begin} of" in told) == (begin > 0)
    assert ("is missing or damaged" in told) == (begin < ROUNDS)
    assert_same_end(copied, finished)


# Checkpoints.


def flip(checkpoint: pathlib.Path) -> None:
    (path,) = (checkpoint / "state" / "ocdbt.process_0" / "d").iterdir()
    sound = path.read_bytes()
    path.write_bytes(sound[:99] + bytes([sound[99] ^ 64]) + sound[100:])


def empty(checkpoint: pathlib.Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def no_metadata(checkpoint: pathlib.Path) -> None:
    (checkpoint / "state" / "_METADATA").unlink()
    checkpoint.with_name(f"{checkpoint.name}.json").unlink()  # as older versions left it


@pytest.mark.parametrize("harm", [flip, empty, no_metadata])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_goes_on(bank, copied, finished, harm):
    harm(unfinish(copied) / "checkpoints" / "6")
    told = told_by(config_for(bank), copied)
    assert "the checkpoint of round 6 is damaged" in told
    assert "set aside as 6.damaged" in told
    assert "resuming after round 4 of 6" in told
    assert_same_end(copied, finished)
    assert evaluate(config_for(bank), copied, 6)["round"] == 6


def test_with_all_checkpoints_damaged_the_run_begins_anew(bank, copied, finished):
    for name in ("2", "4", "6"):
        flip(copied / "checkpoints" / name)
    with pytest.raises(UsageError, match=r"checkpoint: got .*/6 \(its file .* other bytes .*name another round \(2, 4"):
        evaluate(config_for(bank), copied, None)
    told = told_by(config_for(bank), unfinish(copied))
    assert told.count("is damaged") == 3
    assert_same_end(copied, finished)


# More rounds.


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_more_rounds_go_on_and_end_as_if_it_had_had_them_from_the_start(bank, copied, finished, tmp_path, state):
    few, many = config_for(bank), config_for(bank, rounds=8, eval_every=4)
    train_and_evaluate(many, tmp_path / "at_once")
    few.eval_every = 4
    train_and_evaluate(few, tmp_path / "more")
    if state == "stopped":
        shutil.rmtree(tmp_path / "more" / "checkpoints" / "6")
        unfinish(tmp_path / "more")
    told = told_by(many, tmp_path / "more")
    assert "going on from 6 to 8 rounds" in told
    assert f"resuming after round {6 if state == 'finished' else 4} of 8" in told
    assert_same_end(tmp_path / "more", tmp_path / "at_once")
    stored = json.loads((tmp_path / "more" / "config.json").read_text())
    assert (stored["rounds"], stored["rounds_before"]) == (8, [6])
    assert "already done" in told_by(many, tmp_path / "more")
    with pytest.raises(UsageError, match=r"rounds: got 6; allowed: 8 or more: as many has the run in .*/more; mend"):
        train_and_evaluate(few, tmp_path / "more")


@pytest.mark.parametrize("devices", [1, 2])
def test_what_the_server_and_the_clients_keep_goes_on_to_the_bit(bank, tmp_path, devices):
    """SCAFFOLD's control variates of clients that are drawn and FedYogi's moments; five clients deal unevenly."""
    changes = {"local.algorithm": "scaffold", "local.optimizer": "sgd", "local.learning_rate": 0.05, "cohort": 2}
    changes |= {"server.optimizer": "yogi", "engine.devices": devices, "partition.clients": 5, "methods": ("cachefl",)}
    train_and_evaluate(config_for(bank, **changes), tmp_path / "at_once")
    train_and_evaluate(config_for(bank, rounds=3, **changes), tmp_path / "more")
    assert "resuming after round 3 of 6" in told_by(config_for(bank, **changes), tmp_path / "more")
    assert_same_end(tmp_path / "more", tmp_path / "at_once")


def test_baselines_of_a_run_that_began_with_no_rounds_are_trained_when_it_gets_some(bank, tmp_path):
    changes = {"methods": ("zero_shot", "cache_init", "local_only", "centralized", "cachefl"), "eval_every": 2}
    changes |= {"local.learning_rate": 0.3}
    once = train_and_evaluate(config_for(bank, rounds=2, **changes), tmp_path / "once")
    untrained = train_and_evaluate(config_for(bank, rounds=0, **changes), tmp_path / "run")
    train_and_evaluate(config_for(bank, rounds=2, **changes), tmp_path / "run")
    accuracies = [
        summary["methods"]["local_only"][f"test_accuracy{end}"]
        for summary in (once, untrained)
        for end in ("_min", "_max")
    ]
    assert accuracies[:2] != accuracies[2:]  # or the test could tell nothing
    assert_same_end(tmp_path / "run", tmp_path / "once")


# More rows.

FEW = ("cachefl", "centralized")
ADDED = ("zero_shot", "local_only", "linear_probe", "linear_probe@alone", "ridge")
RATE = "linear_probe: local.learning_rate=0.05"


def more_rows(bank: pathlib.Path, **changes):
    """As `config_for`, with rows besides; a rival brings fields of its own."""
    fields = {"methods": METHOD_NAMES, "compare": (*FEW, *ADDED), "overrides": (RATE,)}
    return config_for(bank, **fields | changes)


def test_rows_that_are_added_are_trained_and_the_others_kept(bank, copied, finished, tmp_path):
    train_and_evaluate(more_rows(bank), tmp_path / "at_once")
    kept = snapshot(copied)
    told = told_by(more_rows(bank), copied)
    assert f"going on with {', '.join(ADDED)}" in told
    assert_same_end(copied, tmp_path / "at_once")
    changing = ("config.json", "inputs.json", "baselines.json", "summary.json", "report.html")
    assert {path: path.read_bytes() if path.is_file() else None for path in kept if path.name not in changing} == {
        path: content for path, content in kept.items() if path.name not in changing
    }
    before, after = (json.loads((run / "summary.json").read_text())["methods"] for run in (finished, copied))
    assert {name: after[name] for name in before} == before  # seconds among it
    assert "already done" in told_by(more_rows(bank), copied)


def test_rows_and_rounds_come_together(bank, copied, tmp_path):
    many = more_rows(bank, rounds=9)
    train_and_evaluate(many, tmp_path / "at_once")
    told = told_by(many, copied)
    assert f"going on from 6 to 9 rounds with {', '.join(ADDED)}" in told
    assert_same_end(copied, tmp_path / "at_once")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"compare": ("cachefl", "ridge")}, "compare"),  # a row less
        ({"overrides": ("cachefl: local.learning_rate=0.05",)}, "overrides"),  # of a row that is trained
        ({"seed": 7}, "seed"),
    ],
)
def test_other_rows_or_other_values_of_those_that_are_there_are_refused(bank, finished, changes, field):
    before = snapshot(finished)
    told = rf"with another config \((.*, )?{field} .* there, .* here.*rows of compare may be more"
    with pytest.raises(UsageError, match=told):
        train_and_evaluate(more_rows(bank, **changes), finished)
    assert snapshot(finished) == before


@pytest.mark.parametrize("name", ["cache.safetensors", "cache_init.safetensors", "metrics.jsonl", "partition.npz"])
def test_a_finished_run_that_lost_a_file_is_not_done_until_it_has_it_again(bank, copied, finished, name):
    (copied / name).unlink()
    assert "already done" not in told_by(config_for(bank), copied)
    assert_same_end(copied, finished)


# Other data.


def changed(bank: pathlib.Path, name: str) -> None:
    with np.load(bank) as arrays:
        new = {each: np.array(arrays[each]) for each in arrays.files}
    new[name] = np.roll(new[name], 1, axis=0) if "features" in name else new[name]
    np.savez(bank, **new)


PARTS = [
    ("train_features", "training rows"), ("val_features", "validation rows"), ("test_features", "test rows"),
    ("synthetic_features", "synthetic rows"), ("text_features", "text features"),
]  # fmt: skip


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize(("array", "part"), PARTS)
def test_a_bank_of_which_a_part_was_replaced_is_refused_and_the_part_named(
    bank, finished, tmp_path, array, part, stopped
):
    """`finished` ran on a copy of the same bank: what counts is content, wherever it lies."""
    other = pathlib.Path(shutil.copy(bank, tmp_path / "bank.npz"))
    run = pathlib.Path(shutil.copytree(finished, tmp_path / "run"))
    stored = json.loads((run / "config.json").read_text())
    stored["data"]["path"] = str(other)
    (run / "config.json").write_text(json.dumps(stored))
    if stopped:
        unfinish(run)
    else:
        assert "already done" in told_by(config_for(other), run)  # other times, the same content
    changed(other, array)
    before = snapshot(run)
    with pytest.raises(UsageError, match=rf"--workdir: got .*/run with a run on other data \({part} \w+, now \w+\)"):
        train_and_evaluate(config_for(other), run)
    assert snapshot(run) == before


def test_a_partition_that_was_replaced_is_refused_even_when_all_is_done(bank, tmp_path):
    given = tmp_path / "given.npz"
    np.savez(given, offsets=[0, 30, 60], indices=np.arange(60))
    config = config_for(
        bank, rounds=0, methods=("cachefl",), **{"partition.name": "given", "partition.path": str(given)}
    )
    config.partition.clients = 0
    train_and_evaluate(config, tmp_path / "run")
    np.savez(given, offsets=[0, 20, 60], indices=np.arange(60))
    with pytest.raises(UsageError, match=r"on other data \(partition \w+, now \w+\)"):
        train_and_evaluate(config, tmp_path / "run")


def test_a_synthetic_folder_that_was_replaced_is_refused(make_pictures, config_for_images, tmp_path):
    root = make_pictures(tmp_path / "pictures", dict.fromkeys(("red square", "green disc"), 8))
    drawn = make_pictures(tmp_path / "drawn", dict.fromkeys(("red square", "green disc"), 3), seed=1)
    fields = {"synthesis.source": "image_folder", "synthesis.path": str(drawn)}
    config = config_for_images(root, rounds=0, **fields)
    train_and_evaluate(config, tmp_path / "run")
    assert "already done" in told_by(config, tmp_path / "run")
    make_pictures(drawn, {"red square": 3}, seed=2)
    with pytest.raises(UsageError, match=r"on other data \(synthetic images \w+, now \w+\)"):
        train_and_evaluate(config, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(UsageError, match=r"on other data \(synthetic images \w+, now \w+\)"):
        train_and_evaluate(config, tmp_path / "run")


def test_a_finished_run_whose_data_are_gone_is_done_and_says_what_was_not_checked(bank, tmp_path):
    config = config_for(shutil.copy(bank, tmp_path / "bank.npz"), rounds=0, methods=("cachefl",))
    train_and_evaluate(config, tmp_path / "run")
    (tmp_path / "bank.npz").unlink()
    told = told_by(config, tmp_path / "run")
    assert "already done" in told
    assert "what data.path names is not there any more" in told


def test_a_run_of_an_older_version_goes_on_and_says_what_is_not_known(bank, copied, finished):
    (unfinish(copied) / "inputs.json").unlink()
    assert "only the partition is known to be the same" in told_by(config_for(bank), copied)
    assert_same_end(copied, finished)


def test_what_killed_runs_left_in_the_stores_goes_when_a_run_starts(bank, tmp_path, monkeypatch):
    """A number that no process can have stands for the killed one."""
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    dead, alive = (f"entry.json.{HOST}.{pid}.01234567.tmp" for pid in (2**22 + 1, os.getppid()))
    for store in ("plans", "checked", "digests", "features", "synthetic"):
        (tmp_path / "home" / store).mkdir(parents=True)
        for name in (f".{dead}", f".{alive}"):
            (tmp_path / "home" / store / name).touch()
    (tmp_path / "home" / "features" / ".0123456789abcdef.partial").mkdir()  # a run goes on from there
    (tmp_path / "home" / "features" / ".0123456789abcdef.lock").touch()
    train_and_evaluate(config_for(bank, rounds=0, methods=("zero_shot",)), tmp_path / "run")
    left = {path.name for path in (tmp_path / "home").rglob(".*")}
    assert left == {f".{alive}", ".0123456789abcdef.partial"}
