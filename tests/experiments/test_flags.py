"""What every command does with its flags."""

import subprocess
import sys

import pytest
from absl import flags
from commands import run

from cachefl_jax.config.listing import listing
from experiments import command


@pytest.mark.parametrize("several", [False, True])
def test_home_means_the_same_in_a_flag_as_in_a_field(several, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    command.define_path("folder", "a folder", several=several, values=values)
    assert not values["folder"].value
    values(["command", "--folder=~/run"])
    expected = str(tmp_path / "run")
    assert values["folder"].value == ([expected] if several else expected)


def test_home_is_found_in_the_config_files_name_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.expanded(["command", "--config=~/mine.py:arg", "--workdir=~/x"])[1:] == [
        f"--config={tmp_path}/mine.py:arg",
        "--workdir=~/x",
    ]


@pytest.mark.parametrize("name", ["run", "sweep", "evaluate", "fields"])
def test_help_tells_the_commands_flags_and_every_field(name):
    done = run("--help", command=name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m experiments.{name}" in done.stdout
    if name in ("run", "sweep"):
        assert "--workdir\n" in done.stdout
        assert listing() in done.stdout


def test_a_reader_that_has_read_enough_is_no_error():
    words = f"{sys.executable} -m experiments.fields; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({words}) | true"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr in ("141\n", "0\n")  # 0: it had written all before
