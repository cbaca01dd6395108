"""The page of a proof of concept once more, from its decision."""

import pathlib

from cachefl_jax.errors import UsageError
from cachefl_jax.poc.page import render
from cachefl_jax.report.page import place, write_page
from cachefl_jax.storage.checked_json import read


def draw_again(workdir: pathlib.Path, folders: int, output: pathlib.Path | None) -> pathlib.Path:
    """Draws the page from decision.json; returns where it lies: in the folder, unless `output` says where.

    Args:
        folders: that were named together with this one.

    Raises UsageError: there is no decision yet, or other folders are named beside it."""
    decision = workdir / "decision.json"
    if folders > 1 or not decision.exists():
        found = f"{workdir} (a proof of concept's{'' if folders > 1 else ', not done yet'})"
        raise UsageError("--workdir", found, "one that is done, or folders of runs", "repeat its own command (poc)")
    path = place([workdir], output)
    write_page(path, render(read(decision)))
    return path
