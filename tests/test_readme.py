"""What README.md and the pages under docs/ say is so: code runs, commands parse, and what they name is there."""

import importlib
import pathlib
import re
import shlex
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from cachefl_jax.commands import NAMES
from cachefl_jax.config import FIELDS, default, lookup, resolve
from cachefl_jax.configs import digits
from cachefl_jax.named import FORMS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
ALL = "\n".join(PAGES.values())
INLINE = [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", ALL, flags=re.DOTALL))]
BLOCKS = "\n".join(re.findall(r"^    .*$", ALL, re.MULTILINE)).replace("\\\n", " ")
QUOTED = [*INLINE, *(line.split("    #")[0] for line in BLOCKS.splitlines())]
TABLE = PAGES["README.md"].split("## Commands")[1].split("##")[0]
QUOTED += [f"cachefl {words}" for words in re.findall(r"^\| `([^`]+)`", TABLE, re.MULTILINE)]
COMMANDS = sorted({" ".join(text.split()) for text in QUOTED if re.match(r"\s*(python -m|cachefl) ", text)})
GROUPS = {field.name.split(".")[0] for field in FIELDS if "." in field.name}
FILES = {path.name for folder in ("cachefl_jax", "experiments", "tests") for path in (ROOT / folder).rglob("*.*")}


def code_of(page: str) -> list[str]:
    """The page's Python blocks."""
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_example_of_the_engine_runs():
    """The engine page's code trains ten rounds, to finite losses that fall."""
    (code,) = code_of("docs/engine.md")
    names: dict = {}
    exec(code, names)
    assert int(names["state"].round) == 10
    losses = names["metrics"].train_loss
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_the_example_of_a_sweep_gives_points_that_a_config_takes():
    """Every point of the page's `sweep(add)` is a config that passes all checks."""
    (code,) = code_of("docs/sweeps-and-results.md")
    names: dict = {}
    points: list[dict] = []
    exec(code, names)
    names["sweep"](lambda **changes: points.append(changes))
    assert len(points) == 6
    for changes in points:
        config = default()
        config.update_from_flattened_dict(changes)
        assert lookup(resolve(config), "cache.alpha") == changes["cache.alpha"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """A relative link names a file of the repository, and its anchor a heading of that page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def test_every_page_is_linked_from_the_readme():
    """Nobody has to guess what lies under docs/."""
    assert set(PAGES) - {"README.md"} == set(re.findall(r"\]\((docs/[\w-]+\.md)\)", PAGES["README.md"]))


@pytest.mark.parametrize(
    "path", sorted({text for text in INLINE if re.match(r"(cachefl_jax|experiments|tests)/", text)})
)
def test_paths_that_they_name_are_there(path):
    """A path of the repository in code style stands there."""
    assert (ROOT / path).exists()


def test_python_files_that_they_name_are_there():
    """A Python file that is named without its folder exists somewhere."""
    named = {name for name in re.findall(r"`(\w+\.py)`", ALL)}
    assert named
    assert named <= FILES


def test_types_that_it_names_are_there():
    """Every class name in code style of the README is a class of the package."""
    named = {text for text in re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", PAGES["README.md"])}
    source = "\n".join(path.read_text() for path in (ROOT / "cachefl_jax").rglob("*.py"))
    assert named
    assert named <= set(re.findall(r"^class (\w+)", source, re.MULTILINE))


def test_the_table_of_packages_is_whole():
    """How it is built names every package of cachefl_jax, and none that is gone."""
    packages = {path.parent.name for path in (ROOT / "cachefl_jax").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGES["README.md"], re.MULTILINE)) == packages


def test_the_table_of_commands_is_whole():
    """It has every command of the package, by its name."""
    assert set(re.findall(r"^\| `(\w+)", TABLE, re.MULTILINE)) == set(NAMES)


def source_of(command: str) -> str:
    """The text of the module that a quoted command starts, and of those beside it that it takes flags from."""
    words = command.split()
    module = f"cachefl_jax.commands.{words[1]}" if words[0] == "cachefl" else words[2]
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    beside = re.findall(r"cachefl_jax\.commands\.(\w+)", text)
    beside += [name for names in re.findall(r"experiments\.benchmarks import (.+)", text) for name in names.split(", ")]
    return text + "".join(path.read_text() for name in beside for path in ROOT.glob(f"*/*/{name}.py"))


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # config_flags' own
@pytest.mark.parametrize("command", [words for words in COMMANDS if not re.search(r"NAME$|=\w+\.py:", words)])
def test_commands_that_they_quote_parse(command, monkeypatch):
    """The module is there and knows each flag; a config with the settings beside it passes every check of a config."""
    source = source_of(command)
    for name in set(re.findall(r"--(\w+)", command)) - {"config", "coordinator", "processes", "process"}:
        assert re.search(rf'"(?:--)?{name}"', source), name
    if "experiments/configs/" in command:
        settings = [word for word in shlex.split(command) if word.startswith("--config")]
        monkeypatch.setattr(sys, "argv", ["command", *settings])
        own = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=own, lock_config=True)
        own(sys.argv)
        resolve(own.config)


@pytest.mark.parametrize("text", sorted({text for text in INLINE if text.split(".")[0] in GROUPS and "." in text}))
def test_fields_that_they_name_are_there(text):
    """A field in code style is one of the config's, and a value beside it is in the field's range."""
    name, _, value = text.partition("=")
    if re.search(r"\.(npz|json|safetensors|html|py)$", name):
        return
    (field,) = [field for field in FIELDS if field.name == name]
    kind = type(field.default)
    if value and kind in (int, float, str) and not value.isupper() and "..." not in value:
        assert field.holds(kind(value))


@pytest.mark.parametrize(
    "name",
    ["data.name", "data.layout", "synthesis.source", "partition.name", "partition.quantity", "partition.change",
     "local.algorithm", "server.optimizer", "participation.name", "aggregation.name", "engine.strategy"],
)  # fmt: skip
def test_every_choice_of_a_field_is_told(name):
    """What a field may be stands somewhere in code style."""
    (field,) = [field for field in FIELDS if field.name == name]
    choices = set(field.allowed.removesuffix(f" | {FORMS}").split(" | ")) - {"none"}
    assert len(choices) > 1
    assert choices - {"auto"} <= set(INLINE)


def test_the_rows_of_the_comparison_are_told():
    """README says what each row of the demo's table is, which has those of any config's."""
    table = PAGES["README.md"].split("| row |")[1].split("##")[0]
    told = {name for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)}
    assert told == set(digits.get_config().compare) >= set(default().methods)


@pytest.mark.parametrize("module", ["run", "sweep", "study"])
def test_an_installed_package_has_the_commands_too(module):
    """`cachefl NAME` starts what `python -m experiments.NAME` starts."""
    ours = importlib.import_module(f"cachefl_jax.commands.{module}")
    assert importlib.import_module(f"experiments.{module}").start is ours.start
