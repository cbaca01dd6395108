"""python -m experiments.report: the path of the page, or one line and status 2."""

import pathlib
import subprocess
import sys

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
