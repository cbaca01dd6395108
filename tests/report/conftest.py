"""A small workdir as experiments.run leaves it, with figures that are easy to find again on a page."""

import html
import json
import pathlib
import re

import numpy as np
import pytest

from cachefl_jax.config.rows import row_of
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.report import curve, holdings, page
from cachefl_jax.report.workdir import Run, read_runs
from cachefl_jax.simulation.entries import told_of

CLASSES = ("zero", "<b>one</b> & $co$", "two")
COUNTS = np.array([[5, 0, 1], [0, 7, 0], [0, 0, 0], [2, 2, 2]])
SYNTHETIC, REAL = (255, 0, 255), (0, 200, 40)  # colours that nothing else on the page has
METHODS = {
    "zero_shot": {"test_accuracy": 0.612, "rounds": 0, "total_bytes": 0},
    "cache_init": {"test_accuracy": 0.663, "validation_accuracy": 0.65, "rounds": 0, "total_bytes": 0},
    "local_only": {"test_accuracy": 0.354, "test_accuracy_min": 0.101, "test_accuracy_max": 0.587},
    "centralized": {"test_accuracy": 0.955, "client_flops_per_round": None},
    "closed_form": {"test_accuracy": 0.847},
    "cachefl": {
        "test_accuracy": 0.941, "validation_accuracy": 0.932, "rounds": 3, "uplink_bytes_per_client_round": 4096,
        "downlink_bytes_per_client_round": 4096, "total_bytes": 98304, "client_flops_per_round": 2.5e9,
        "seconds_per_round": 0.0421, **told_of(row_of("cachefl", "cachefl"), cachefl),
    },
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def figures_not_drawn():
    """Charts are drawn here."""


def config(clients: int) -> dict:
    return {
        "seed": 0, "method": "cachefl", "methods": list(METHODS), "data": {"name": "digits", "path": ""},
        "partition": {"name": "dirichlet", "clients": clients, "concentration": 0.1}, "rounds": 3,
    }  # fmt: skip


def metrics(clients: int) -> list[dict]:
    accuracies = (0.663, None, 0.9, 0.941)
    return [
        {
            "round": index, "test_accuracy": accuracy, "validation_accuracy": accuracy and accuracy - 0.01,
            "train_loss": None if index == 0 else 1 / index, "bytes_up": 4096 * clients * (index > 0),
            "bytes_down": 4096 * clients * (index > 0), "seconds": 0.04, "cohort": clients * (index > 0),
        }
        for index, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def summary(clients: int, whole_model: dict | None) -> dict:
    dataset = {
        "name": "digits", "class_names": list(CLASSES), "classes": 3, "features": 8, "train": int(COUNTS.sum()),
        "validation": 20, "test": 40, "synthetic": 12, "clients": clients,
    }  # fmt: skip
    return {"dataset": dataset, "methods": METHODS, "whole_model": whole_model, "notes": ["Fonts, not pens."]}


def write_images(path: pathlib.Path) -> None:
    synthetic = np.broadcast_to(np.uint8(SYNTHETIC), (3, 4, 32, 32, 3))
    np.savez(path, synthetic=synthetic, real=np.broadcast_to(np.uint8(REAL), (3, 2, 8, 8, 3)))


@pytest.fixture
def make_workdir(tmp_path):
    """Writes a workdir of the given name; a feature bank's has no images and knows no whole model."""

    def make(name: str = "run", feature_bank: bool = False, **changes) -> pathlib.Path:
        workdir = tmp_path / name
        workdir.mkdir()
        clients = len(COUNTS)
        model = None if feature_bank else {"name": "pocket CLIP", "bytes": 1_000_000}
        bank = {"data": {"name": "feature_bank", "path": "bank.npz"}} if feature_bank else {}
        (workdir / "config.json").write_text(json.dumps(config(clients) | bank | changes))
        (workdir / "summary.json").write_text(json.dumps(summary(clients, model)))
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics(clients)))
        offsets = np.concatenate([[0], np.cumsum(COUNTS.sum(axis=1))])
        np.savez(workdir / "partition.npz", offsets=offsets, indices=np.arange(offsets[-1]), class_counts=COUNTS)
        if not feature_bank:
            write_images(workdir / "images.npz")
        return workdir

    return make


@pytest.fixture
def make_run(make_workdir):
    """A run, read, with some of its entries changed.

    `methods` and `dataset` replace entries of the summary (None takes a method out), `rounds` cuts the rounds off after
    that one, and the rest are fields of the config.
    """

    made = 0

    def make(methods=None, dataset=None, rounds=None, images=True, notes=(), **config) -> Run:
        nonlocal made
        made += 1
        (run,) = read_runs([make_workdir(f"run{made}")])
        changed = {name: METHODS.get(name, {}) | entry for name, entry in (methods or {}).items() if entry is not None}
        left = {name: entry for name, entry in METHODS.items() if name not in (methods or {})}
        summary = run.summary | {"methods": left | changed, "notes": list(notes)}
        summary["dataset"] = summary["dataset"] | (dataset or {})
        lines = run.rounds if rounds is None else run.rounds[: rounds + 1]
        pictures = {} if images else {"synthetic": None, "real": None}
        return run._replace(summary=summary, rounds=lines, config=run.config | config, **pictures)

    return make


@pytest.fixture
def text_of(monkeypatch):
    """The words of the page of some runs, each space single. Charts are not drawn: they take most of a page's time."""
    monkeypatch.setattr(curve, "draw", lambda *_: curve.Figure(figsize=(1, 1)))
    monkeypatch.setattr(holdings, "draw", lambda *_: holdings.Figure(figsize=(1, 1)))

    def text(*runs: Run) -> str:
        body = page.render(runs).split("<main>")[1]
        return html.unescape(" ".join(re.sub(r"<svg.*?</svg>|<[^>]*>", " ", body, flags=re.DOTALL).split()))

    return text
