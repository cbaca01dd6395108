"""What every command does with its flags."""

import os
import subprocess
import sys

import pytest
from absl import flags
from command_line import assert_refused, run

from cachefl_jax.commands import command
from cachefl_jax.commands.flag_errors import explain
from cachefl_jax.config.listing import listing


@pytest.mark.parametrize("several", [False, True])
def test_home_means_the_same_in_a_flag_as_in_a_field(several, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    command.define_path("folder", "a folder", several=several, values=values)
    assert not values["folder"].value
    values(["command", "--folder=~/run"])
    expected = str(tmp_path / "run")
    assert values["folder"].value == ([expected] if several else expected)


def test_a_flag_whose_value_was_forgotten_does_not_take_the_next_one():
    values = flags.FlagValues()
    command.define_path("sites", "a folder", values=values)
    with pytest.raises(flags.IllegalFlagValueError) as told:
        values(["command", "--sites", "--synthetic=x"])
    line = str(explain(["command"], told.value))
    assert line.startswith("--sites: got --synthetic=x; allowed: a path, after an = sign")


def test_a_field_as_a_flag_of_its_own_is_told_with_its_beginning():
    with pytest.raises(flags.UnrecognizedFlagError) as told:
        flags.FlagValues()(["command", "--synthesis.price_gpu_hour=3"])
    assert explain(["command"], told.value).mend == "--config.synthesis.price_gpu_hour=..."


def test_home_is_found_in_the_config_files_name_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.expanded(["command", "--config=~/mine.py:arg", "--workdir=~/x"])[1:] == [
        f"--config={tmp_path}/mine.py:arg",
        "--workdir=~/x",
    ]


@pytest.mark.parametrize("name", ["run", "sweep", "study", "evaluate", "fields"])
def test_help_tells_the_commands_flags_and_every_field(name, start):
    done = start("--help", command=name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m experiments.{name}" in done.stdout
    if name in ("run", "sweep", "study"):
        assert "--workdir\n" in done.stdout
        assert listing() in done.stdout


def test_a_reader_that_has_read_enough_is_no_error():
    words = f"{sys.executable} -m experiments.fields; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({words}) | true"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr in ("141\n", "0\n")  # 0: it had written all before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no get_config()"),
        ("def get_config():\n    return 5\n", "get_config() returned int"),
        ("def get_config():\n    return None\n", "get_config() returned NoneType"),
        ("def get_config():\n    return {'rounds': 1}\n", "get_config() returned dict"),
        ("def get_config():\n    exit(3)\n", "it ends the program"),
        ("def get_config():\n    1 / 0\n", "division by zero"),
    ],
)
def test_a_config_file_that_gives_no_config_is_told_by_its_name(text, told, start, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    done = start(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
    assert_refused(done, f"--config: got {tmp_path}/mine.py ({told})")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workdir", ["~nobody_at_all/run", "gs://bucket/run", "/tmp/" + "x" * 300])
@pytest.mark.parametrize("name", ["run", "evaluate", "report"])
def test_a_folder_that_cannot_be_is_told_by_every_command(name, workdir, start):
    config = ["--config=experiments/configs/digits.py"] if name == "run" else []
    assert_refused(start(f"--workdir={workdir}", *config, command=name), f"got {workdir[:10]}")


@pytest.mark.parametrize("name", ["run", "sweep", "study", "evaluate", "synthesize", "features", "report"])
def test_a_file_of_flags_that_is_not_there_is_told_in_one_line(name, start):
    assert_refused(start("--flagfile=/none", command=name), "/none")


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full"])
@pytest.mark.parametrize("flag", ["", "--help"])
def test_output_that_goes_nowhere_is_no_traceback(streams, flag):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m experiments.fields {flag} {streams}"], capture_output=True, text=True
    )
    assert done.returncode == (2 if "full" in streams else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (1 if "full" in streams else 0)


def test_variables_of_the_libraries_stop_no_command(tmp_path):
    """matplotlib refuses a backend that it does not know; the config's loader warns, which may be made an error."""
    words = [sys.executable, "-m", "experiments.report", f"--workdir={tmp_path / 'none'}"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "bogus"}, check=False)
    assert_refused(done, "none")
    words = [sys.executable, "-m", "experiments.run", "--config=experiments/configs/digits.py", "--config.rounds=-1"]
    done = subprocess.run(
        [*words, f"--workdir={tmp_path / 'none'}"], capture_output=True, text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"}, check=False,
    )  # fmt: skip
    assert_refused(done, "rounds: got -1")


@pytest.mark.parametrize("flag", ["--older_than_days=nan", "--keep_gib=nan"])
def test_what_is_no_number_prunes_nothing(flag, tmp_path, start):
    done = start("prune", flag, command="features", CACHEFL_HOME=str(tmp_path))
    assert_refused(done, f"{flag.split('=')[0]}: got nan")


def test_a_field_that_evaluation_does_not_know_is_told_in_one_line(tmp_path, start):
    (tmp_path / "config.json").write_text("{}")
    done = start(f"--workdir={tmp_path}", "--config.nothing=1", command="evaluate")
    assert_refused(done, "config.nothing: got no such field")


MINE = """
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import finite
from cachefl_jax.federation.transforms import stateless
flip = stateless(lambda update, sender: update, fields=(Field("flip.scale", 2.0, "how far", *finite(0), "raise it"),))
"""


def test_the_fields_of_a_users_component_are_flags_that_are_checked_and_listed(tmp_path, start):
    (tmp_path / "mine.py").write_text(MINE)
    name = f"--config.updates.transforms={tmp_path}/mine.py"
    words = ["--config=experiments/configs/digits.py", f"--workdir={tmp_path}/run"]
    assert_refused(start(*words, f"{name}:flip", "--config.flip.scale=-1"), "flip.scale: got -1.0")
    assert_refused(start(*words, f"{name}:flop", "--config.flip.scale=-1"), "updates.transforms: got", ":flop;")
    done = run(f"{name}:flip", "flip", command="fields")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "--config.flip.scale=2.0\n    how far\n    a finite float32 number, 0 or more\n"
    assert not (tmp_path / "run").exists()
