"""One process at a time: who holds a lock is named, and a process that was killed holds nothing."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.home import locked
from cachefl_jax.storage.leftovers import HOST
from cachefl_jax.storage.locks import FOLDER_LOCK, folder_lock, holder

HOLD = """
import pathlib, sys, time
from cachefl_jax.storage.home import locked
from cachefl_jax.storage.locks import folder_lock
path = pathlib.Path(sys.argv[1])
with folder_lock(path) if path.name == "run" else locked(path, None):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the lock of tmp_path/"run"."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run"), "60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_and_the_process_named_until_it_is_killed(tmp_path, other_process):
    folder = tmp_path / "run"
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    told = rf"--workdir: got .*run \(in use by process {other_process.pid} on {HOST} since 20\d\d-.*; allowed: .*; mend"
    with pytest.raises(UsageError, match=told), folder_lock(folder):
        raise AssertionError("two at once")
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert (folder / FOLDER_LOCK).is_file()
    with folder_lock(folder):
        assert holder(folder / FOLDER_LOCK).startswith(f"process {os.getpid()} on {HOST} since")
    assert not list(folder.iterdir())


def test_a_folder_made_for_a_lock_goes_with_it_unless_something_lies_there(tmp_path):
    deep = tmp_path / "a" / "b"
    with folder_lock(deep):
        assert deep.is_dir()
    assert not (tmp_path / "a").exists()
    with folder_lock(deep):
        (deep / "file").touch()
    assert [entry.name for entry in deep.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    told = r"--workdir: got .*file/run .*a folder that can be written"
    with pytest.raises(UsageError, match=told), folder_lock(tmp_path / "file" / "run"):
        pass


def test_a_store_that_waits_says_so_and_one_that_does_not_is_told(tmp_path, capsys):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "entry"), "0.5"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with locked(tmp_path / "entry", None) as held:
            assert not held
        with locked(tmp_path / "entry", "waiting for it") as held:
            assert held
    assert capsys.readouterr().err == "waiting for it\n"
    assert not list(tmp_path.iterdir())


def test_no_lock_is_made_by_hand():
    package = pathlib.Path(__file__).parents[2]
    files = [file for part in ("cachefl_jax", "experiments") for file in (package / part).rglob("*.py")]
    assert files
    assert not [file for file in files if "fcntl" in file.read_text()]
