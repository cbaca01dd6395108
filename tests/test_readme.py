"""The README's Python runs as it stands there, and the files that it names exist."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_of_the_engine_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert int(names["state"].round) == 10
    assert np.isfinite(names["metrics"].train_loss).all()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?<!tests/)experiments/[\w/]+\.(?:py|png)", README))))
def test_files_that_it_names_are_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (experiments[.\w]+)", README))))
def test_commands_that_it_names_are_there(module):
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
