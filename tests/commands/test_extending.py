"""docs/extending.md as its reader meets it: its files, outside the package, and its commands, on the small demo."""

import ast
import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from cachefl_jax.config import changed, resolve
from cachefl_jax.configs import digits
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import check_regimes, contenders_of
from cachefl_jax.simulation.prepare import counted, prepare
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.study.plan import study_of

pytestmark = pytest.mark.quick

PLACE = pathlib.Path(__file__).parents[2] / "docs"
PAGE = (PLACE / "extending.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^    python -m experiments\.(.+)$", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """The page's files, and what the last of them makes."""
    folder = tmp_path_factory.mktemp("mine")
    for name, code in FILES.items():
        (folder / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(FILES["make_bank.py"], {})
    return folder


@pytest.fixture(scope="module")
def start(folder, quick_start):
    """(a command of the page, *more words) -> what it prints; the demo is the small one."""

    def start(command: str, *more: str) -> str:
        command = re.sub(r"\b(probe|means|middle|attack|rest)\.py", rf"{folder}/\1.py", command)
        command = command.replace("bank.npz", f"{folder}/bank.npz").replace("runs/", f"{folder}/")
        name, *words = shlex.split(command.replace("digits.py", "digits.py:smoke"))
        done = quick_start(*words, *more, command=name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


ONE_ROW = "--config.methods=('cachefl',)"  # what else is compared is not asked here


def summary(folder: pathlib.Path, name: str) -> dict:
    """The rows of a run's table."""
    return json.loads((folder / name / "summary.json").read_text())["methods"]


def command_of(name: str) -> str:
    """The page's command that ends in the folder runs/NAME."""
    (found,) = [command for command in COMMANDS if command.endswith(f"--workdir=runs/{name}")]
    return found


def test_the_files_are_short():
    """A method takes at most 60 lines, an aggregation or a transform at most 30."""
    lengths = {name: len(code.splitlines()) for name, code in FILES.items()}
    assert lengths["probe.py"] <= 60
    assert max(lengths["middle.py"], lengths["attack.py"], lengths["rest.py"]) <= 30


def test_every_command_of_the_page_is_tried():
    """None is left out here."""
    tried = {"fields", *(command_of(name) for name in ("probe", "means", "middle", "attack", "rest", "bank"))}
    assert {command if command in tried else command.split()[0] for command in COMMANDS} == tried


@pytest.mark.parametrize("name", ["probe", "means", "middle", "attack", "rest", "lora"])
def test_the_whole_demo_takes_the_command(folder, monkeypatch, name):
    """All rows of its table are built: no row that a shipped config compares refuses what the command sets."""
    monkeypatch.chdir(folder)
    page = PAGE if name != "lora" else (PLACE / "methods.md").read_text()
    (command,) = re.findall(rf"experiments.run (.*--workdir=runs/{name}\b.*)$", page.replace("\\\n", " "), re.MULTILINE)
    words = re.findall(r"--config\.([\w.]+)=(.*)", "\n".join(shlex.split(command)))
    config = digits.get_config()
    small = {"synthesis.images_per_class": 2, "synthesis.steps": 4, "cache.keys_per_class": 2}
    told = {field: value_of(text) for field, text in words}
    config = resolve(changed(config, small | told))
    inputs = prepare(config)
    for contender in contenders_of(counted(config, inputs)):
        check_regimes(contender.rows, build(contender.config, inputs, Shared(), ordered=True, name=contender.method))


def value_of(text: str):
    """A value on a command line."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return (text,) if text == "attack.py:flip" else text
    return value


def test_fields_of_its_own_are_listed(start):
    """The listing has the probe's field beside ours."""
    (listing,) = [command for command in COMMANDS if command.startswith("fields")]
    assert "probe.scale" in start(listing)


def test_the_probe_is_trained_like_a_method_of_ours(start, folder):
    """It learns, its weights are what travels and what is deployed, and its field reaches it."""
    start(command_of("probe"))
    rows = summary(folder, "probe")
    (mine,) = [
        row for name, row in rows.items() if name not in ("zero_shot", "cache_init", "local_only", "centralized")
    ]
    assert mine["uplink_bytes_per_client_round"] == 4 * 10 * 128
    assert mine["test_accuracy"] > rows["cache_init"]["test_accuracy"]
    assert json.loads((folder / "probe" / "config.json").read_text())["probe"] == {"scale": 20.0}
    assert "already done" in start(command_of("probe"))


def test_the_means_are_those_of_all_rows(start, folder):
    """The page's closed form sends its sums once, and has what everybody's rows in one place have."""
    start(command_of("means"))
    rows = summary(folder, "means")
    assert rows["means"]["rounds"] == 1
    assert rows["means"]["uplink_bytes_per_client_round"] == 4 * (10 + 10 * 128)
    assert rows["means"]["test_accuracy"] == rows["centralized"]["test_accuracy"] > 0.8


def test_the_median_is_not_the_mean(start, folder):
    """The page's aggregation decides the keys, and gives those of our own median."""
    start(command_of("middle"), ONE_ROW)
    ours = command_of("middle").replace("middle.py:middle", "median").replace("runs/middle", "runs/median")
    start(ours, ONE_ROW)
    start(ours.replace("=median", "=mean").replace("runs/median", "runs/mean"), ONE_ROW)
    keys = {
        name: np.frombuffer((folder / name / "cache.safetensors").read_bytes()[-40960:], np.float32)
        for name in ("middle", "median", "mean")
    }
    np.testing.assert_allclose(keys["middle"], keys["median"], atol=1e-6)
    assert np.abs(keys["middle"] - keys["mean"]).max() > 1e-4


def test_the_attack_changes_what_is_learnt(start, folder):
    """With nobody attacking the run is the one without the transform; with some it is another."""
    start(command_of("attack"), ONE_ROW)
    start(command_of("attack").replace("clients=5", "clients=0").replace("runs/attack", "runs/peace"), ONE_ROW)
    start(command_of("middle"), ONE_ROW)
    files = [(folder / name / "cache.safetensors").read_bytes() for name in ("attack", "peace", "middle")]
    assert files[0] != files[1] == files[2]


def test_the_client_that_is_left_out_takes_no_part(start, folder):
    """All but one of the small demo's 4 clients, every round, and it is another run."""
    start(command_of("rest"), ONE_ROW)
    lines = [json.loads(line) for line in (folder / "rest" / "metrics.jsonl").read_text().splitlines()]
    assert [line["cohort"] for line in lines] == [0, 3, 3]


def test_the_study_of_another_page_takes_the_method_and_the_bank(folder, monkeypatch):
    """Its config file names both, its rows are there, and its settings are two."""
    monkeypatch.chdir(folder)
    page, settings, names = (PLACE / "studies.md").read_text(), [], {}
    exec(re.search(r"```python\n# mine.py\n(.*?)```", page, re.DOTALL)[1], names)
    names["study"](lambda **values: settings.append(values))
    study = study_of(names["get_config"](), settings)
    assert study.own == "probe"
    assert [row.name for row in study.rows] == ["zero_shot", "probe", "probe@alone", "cachefl", "ridge"]
    assert [setting.name for setting in study.settings] == [
        "partition.name=iid", "partition.name=dirichlet, partition.concentration=0.1",
    ]  # fmt: skip


def test_a_bank_of_any_program_is_trained_on(start, folder):
    """The arrays of the page's file are a bank."""
    start(command_of("bank"), ONE_ROW)
    assert summary(folder, "bank")["cachefl"]["test_accuracy"] > 0.5
