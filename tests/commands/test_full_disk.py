"""A disk without room, and folders that may not be written: one line, and the same command goes on from there."""

import errno
import os
import subprocess

import pytest
from command_line import assert_refused
from command_line import run as command

from cachefl_jax import errors
from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.storage import files


@pytest.mark.parametrize("number", sorted(errors.REFUSALS))
def test_what_a_file_system_refuses_is_one_line_that_names_the_place(number, tmp_path):
    error = OSError(number, os.strerror(number), str(tmp_path / "run" / "summary.json"))
    places = {"--workdir": [str(tmp_path / "run")], "CACHEFL_HOME": [str(tmp_path)]}
    told = errors.refusal(error, places)
    assert told.field == "--workdir"
    assert f"summary.json ({os.strerror(number)})" in str(told)
    error.filename = str(tmp_path / "compiled")
    assert errors.refusal(error, places).field == "CACHEFL_HOME"
    error.filename = "/elsewhere"
    assert errors.refusal(error, places).field == "file"
    assert errors.refusal(OSError(number, os.strerror(number)), places).field == "disk"


def test_what_is_no_refusal_stays_an_error():
    for error in (FileNotFoundError(errno.ENOENT, "none", "x"), ConnectionError("no network"), OSError("odd")):
        assert errors.refusal(error, {}) is None


def test_a_librarys_own_error_is_searched_for_the_systems(tmp_path):
    words = f"RESOURCE_EXHAUSTED: Failed to write 181 bytes: {os.strerror(errno.ENOSPC)} [os_error_code='28']"
    found = errors.of_the_system(ValueError(words), tmp_path)
    assert (found.errno, found.filename) == (errno.ENOSPC, str(tmp_path))
    outer = RuntimeError("save failed")
    outer.__cause__ = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert errors.of_the_system(outer, tmp_path).errno == errno.EACCES
    assert errors.of_the_system(ValueError("shapes differ"), tmp_path) is None


@pytest.fixture
def small_config(make_bank):
    config = default()
    config.data.name, config.data.path, config.methods = "feature_bank", str(make_bank()), ("zero_shot", "cachefl")
    config.partition.clients, config.partition.concentration, config.engine.devices = 5, 0.5, 1
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.engine.strategy = 2, 4, 2, "scan"
    return config


def test_a_run_whose_disk_is_full_at_any_file_goes_on_once_there_is_room(small_config, tmp_path, monkeypatch):
    train_and_evaluate(small_config, tmp_path / "whole")
    expected, real = (tmp_path / "whole" / "cache.safetensors").read_bytes(), os.fsync
    for room in (0, 6):  # files that still fit
        calls = []

        def fsync(handle, calls=calls, room=room):
            calls.append(handle)
            if len(calls) > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle)

        monkeypatch.setattr(files.os, "fsync", fsync)
        folder = tmp_path / str(room)
        with pytest.raises(OSError, match="No space left") as raised:
            train_and_evaluate(small_config, folder)
        assert raised.value.filename.startswith(str(folder))
        assert not [entry for entry in folder.rglob("*.tmp")]
        monkeypatch.setattr(files.os, "fsync", real)
        train_and_evaluate(small_config, folder)
        assert (folder / "cache.safetensors").read_bytes() == expected


def test_a_finished_run_that_may_not_be_written_is_done_and_an_unfinished_one_refused(
    small_config, tmp_path, monkeypatch, capsys
):
    train_and_evaluate(small_config, tmp_path / "run")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may be root's, who may write anywhere
    capsys.readouterr()
    train_and_evaluate(small_config, tmp_path / "run")
    assert "already done" in capsys.readouterr().out
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(UsageError, match=r"--workdir: got .*not to be written"):
        train_and_evaluate(small_config, tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills_up_under_a_checkpoint(make_bank, small_disk, tmp_path):
    words = ["--config=experiments/configs/feature_bank.py", f"--config.data.path={make_bank()}", "--config.rounds=2"]
    words += ["--config.engine.strategy=scan"]
    words += ["--config.methods=('cachefl',)", "--config.engine.devices=1", f"--workdir={small_disk / 'run'}"]
    assert_refused(command(*words), "--workdir: got", "No space left on device", "make room")
    assert not (small_disk / "run" / "summary.json").exists()
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    done = command(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert (small_disk / "run" / "report.html").is_file()
