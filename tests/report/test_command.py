"""python -m experiments.report: the path of the page, or one line and status 2."""

import json
import pathlib
import subprocess
import sys

from cachefl_jax.config import default
from cachefl_jax.config.as_json import resolved

ROOT = pathlib.Path(__file__).parents[2]


def report(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.report", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_command_prints_the_path_of_one_page_for_all_runs(make_workdir, tmp_path):
    first, second = make_workdir("first"), make_workdir("second")
    (first / "report.html").write_text("the run's own")
    done = report(f"--workdir={first}", f"--workdir={second}", f"--output={tmp_path / 'both'}")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'both' / 'report.html'}\n")
    assert "2 runs compared" in (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert (first / "report.html").read_text() == "the run's own"


def test_command_tells_bad_input_in_one_line(make_workdir, tmp_path):
    workdir = make_workdir()
    (workdir / "summary.json").unlink()
    for flags in ((f"--workdir={workdir}",), (f"--workdir={tmp_path / 'nowhere'}",), ()):
        done = report(*flags)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "mend:" in done.stderr


def test_a_sweep_has_a_page_of_its_own_and_none_beside_runs(make_workdir, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps([resolved(default())]))
    done = report(f"--workdir={tmp_path / 'sweep'}")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'sweep' / 'report.html'}\n")
    done = report(f"--workdir={tmp_path / 'sweep'}", f"--workdir={make_workdir()}", f"--output={tmp_path / 'a.html'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "(a sweep's) beside others" in done.stderr
