"""Code of the documents that takes seconds: the figure of docs/figures.md comes out as told; README's program runs."""

import pathlib
import re

import pytest

pytestmark = pytest.mark.quick

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "figures.md").read_text()


def test_where_cachefl_loses_is_as_the_page_says(capsys):
    """Ridge regression on the demo's features has the accuracy that the text names."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    printed = float(capsys.readouterr().out.strip().removesuffix("%"))
    (told,) = re.findall(r"than CacheFL after 200 rounds, (\d+\.\d)% against", PAGE)
    assert abs(printed - float(told)) < 0.25  # a row of 450, for another machine's rounding


def test_the_program_of_the_readme_runs(capsys):
    """It prints an accuracy and the shape of the keys, and nothing else."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(code, {})
    accuracy, shape = capsys.readouterr().out.split(maxsplit=1)
    assert 0.3 < float(accuracy) < 1
    assert shape.strip() == "(10, 2, 128)"
