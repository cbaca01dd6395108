"""A wheel of the repository, installed beside its dependencies and far from any checkout, does what a checkout does."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")


def run(*words: object, folder: pathlib.Path, status: int = 0) -> subprocess.CompletedProcess:
    """Runs a program in a folder, where Python finds nothing but what is installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = list(map(str, words))
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel, built without network from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "cachefl_jax", folder / "cachefl_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir=.", ".")
    run(sys.executable, "-m", "pip", "wheel", *offline, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """The programs of a new environment with the wheel and, by a path, the packages that it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", ".", folder=folder)
    python = folder / "bin" / "python"
    offline = ("--no-deps", "--no-index", "--no-compile", "--quiet")
    run(sys.executable, "-m", "pip", f"--python={python}", "install", *offline, wheel, folder=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth are not followed
    return python.parent


def test_the_wheel_has_every_file_of_the_package(wheel):
    """Templates, weights and prompts among them."""
    files = {path for path in (ROOT / "cachefl_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == {str(path.relative_to(ROOT)) for path in files}


@pytest.mark.quick
def test_from_an_empty_folder_the_commands_run_the_digits(bin_folder, tmp_path):
    cachefl = functools.partial(run, bin_folder / "cachefl", folder=tmp_path)
    told = cachefl("run", "--config=digits:smoke", "--workdir=runs/smoke").stdout
    summary = json.loads((tmp_path / "runs/smoke/summary.json").read_text())
    accuracy = summary["methods"]["cachefl"]["test_accuracy"]
    assert f"{accuracy:.1%}" in told
    evaluated = json.loads(cachefl("evaluate", "--workdir=runs/smoke").stdout)
    assert (evaluated["round"], evaluated["test_accuracy"]) == (2, accuracy)
    page = tmp_path / "runs/smoke/report.html"
    page.unlink()
    assert cachefl("report", "--workdir=runs/smoke").stdout.split() == ["runs/smoke/report.html"]
    assert page.is_file()
    program = (
        "import cachefl_jax; from cachefl_jax.configs.digits import get_config; print(cachefl_jax.__file__);"
        "print(cachefl_jax.simulate(get_config('smoke'), 'runs/smoke').records[-1]['test_accuracy'])"
    )
    place, again = run(bin_folder / "python", "-c", program, folder=tmp_path).stdout.split()
    assert pathlib.Path(place).is_relative_to(bin_folder.parent)
    assert float(again) == accuracy
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_help_and_refusals_name_the_commands_as_they_are_installed(bin_folder, tmp_path):
    cachefl = functools.partial(run, bin_folder / "cachefl", folder=tmp_path)
    assert cachefl().stdout == cachefl("--help").stdout
    (tmp_path / "mine.py").write_text("from cachefl_jax.methods.cachefl import cachefl as method\n")
    assert "local.learning_rate" in cachefl("fields", "local", "--config.method=mine:method").stdout
    told = cachefl("run", "--help").stdout
    assert "cachefl run --config=digits --workdir=runs/digits" in told
    assert "experiments" not in told
    assert "did you mean report?" in cachefl("reprot", status=2).stderr
    assert "cachefl fields lists" in cachefl("run", "--config=digits", "--config.nothing=1", status=2).stderr
