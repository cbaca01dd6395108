"""What a killed process leaves is removed at the next start; what a living one writes stays."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cachefl_jax.storage.files import write_whole
from cachefl_jax.storage.leftovers import UNTOUCHED, remove_leftovers, temporary_name

WRITE = """
import pathlib, sys, time
from cachefl_jax.storage.files import write_whole
def write(file):
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
write_whole(pathlib.Path(sys.argv[1]), write)
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing tmp_path/"config.json"."""
    with subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "config.json")], stdout=subprocess.PIPE) as made:
        assert made.stdout.readline() == b"begun\n"
        yield made
        made.kill()


def test_a_half_written_file_stays_while_its_process_lives(tmp_path, writer):
    (tmp_path / ".config.json.notes").touch()  # somebody's own
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [".config.json.notes"]


def test_what_this_process_writes_stays_and_what_had_its_number_before_goes(tmp_path):
    before = temporary_name(tmp_path / "file")  # in a container the number comes again and again
    before.touch()
    write_whole(tmp_path / "file", lambda _: remove_leftovers(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_another_machines_file_goes_when_nobody_has_touched_it_for_long(tmp_path):
    path = tmp_path / ".report.html.some-node.4711.0123abcd.tmp"
    path.touch()
    remove_leftovers(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - UNTOUCHED - 60,) * 2)
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_names_of_older_versions_go_where_the_caller_alone_writes(tmp_path):
    for name in (".config.json.ab_4xyz9", ".other.json.ab_4xyz9"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, ["config.json"])
    assert [entry.name for entry in tmp_path.iterdir()] == [".other.json.ab_4xyz9"]
    remove_leftovers(tmp_path / "nowhere")
