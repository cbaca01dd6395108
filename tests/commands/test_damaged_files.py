"""Every JSON field of a finished run and of a sweep, damaged in every way: one line that names the file, or a page."""

import itertools
import json
import pathlib
import shutil

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import stored_config
from cachefl_jax.commands.sweep import ranking
from cachefl_jax.config import default
from cachefl_jax.config.as_json import resolved
from cachefl_jax.errors import UsageError
from cachefl_jax.report import curve, holdings, method_table, page
from cachefl_jax.report.workdir import read_runs
from cachefl_jax.simulation.plans import stored
from cachefl_jax.simulation.sweep_folder import claim
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import fault
from cachefl_jax.storage.files import write_tensors
from cachefl_jax.storage.first_cache import read_cache
from cachefl_jax.storage.run_files import read_baselines, read_summary

pytestmark = pytest.mark.quick

DAMAGE = {
    "null": b"null", "text": b'"text"', "huge": b"1" + b"0" * 400, "-1": b"-1", "fraction": b"0.5", "true": b"true",
    "nested": b'[["a"], [1]]', "object": b"{}", "deleted": None,
    "markup": b'"\\ud800<script>alert(1)</script>\\n\\u0000"',
}  # fmt: skip
# No JSON, wherever it stands: one of these a field, in turn.
BROKEN = {
    "endless": b"1" + b"0" * 5000, "NaN": b"NaN", "infinite": b"1e999", "no UTF-8": b'"\xff\xfe"', "cut": b"",
    "deep": b"[" * 100_000 + b"]" * 100_000, "open": b"[" * 100_000,
}  # fmt: skip
MARK = "here it is damaged"


def places(value, path=()):
    """The path of every value in plain JSON, the whole first; of a long list the first item alone."""
    yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def damaged(value, path: tuple, token: bytes | None) -> bytes:
    """The value as JSON with `token` instead of what is at `path`; None takes that out."""
    if not path:
        return token or b""
    value = json.loads(json.dumps(value))
    parent = value
    for name in path[:-1]:
        parent = parent[name]
    if token is None:
        del parent[path[-1]]
        return json.dumps(value).encode()
    parent[path[-1]] = MARK
    return json.dumps(value).encode().replace(json.dumps(MARK).encode(), token)


def damages(file: pathlib.Path):
    """(what was done, the file's new bytes): each field of each kind of damage. Of lines, the second is damaged."""
    content = file.read_bytes()
    first, line = b"", content
    if file.suffix == ".jsonl":
        first, line = content.splitlines(keepends=True)[:2]
    value = json.loads(line)
    for path, broken in zip(places(value), itertools.cycle(BROKEN.items())):
        for name, token in (*DAMAGE.items(), broken):
            yield f"{file.name} {path} {name}", first + damaged(value, path, token) + b"\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_bank_in):
    """The folder of a finished run, and its config."""
    folder = tmp_path_factory.mktemp("finished")
    config = default()
    config.data.name, config.data.path = "feature_bank", str(make_bank_in(folder))
    config.partition.clients, config.cache.keys_per_class, config.rounds = 3, 2, 1
    config.engine.devices = 1
    train_and_evaluate(config, folder / "run")
    return folder / "run", config


@pytest.fixture
def quick_charts(monkeypatch):
    """Charts that read their figures and draw nothing: most of a page's time."""
    monkeypatch.setattr(curve, "draw", lambda *_: curve.Figure(figsize=(1, 1)))
    monkeypatch.setattr(holdings, "draw", lambda *_: holdings.Figure(figsize=(1, 1)))


def outcome(read) -> str | None:
    """The one line of a refusal; None where `read` went through."""
    try:
        read()
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", "partition.json"])
def test_the_report_of_a_damaged_run_is_a_page_or_one_line(finished, quick_charts, tmp_path, name):
    folder, pages, lines = tmp_path / "run", [], []
    shutil.copytree(finished[0], folder)
    for what, content in damages(folder / name):
        (folder / name).write_bytes(content)
        line = outcome(lambda: pages.append(page.render(read_runs([folder]))))
        if line is None:
            assert "<script" not in pages[-1], what
            pages[-1].encode()
        else:
            assert name in line, what
            assert len(line) < 1500, what
            lines.append(line)
    assert min(len(pages), len(lines)) > 5


READERS = {
    "config.json": lambda folder, config: (
        Workdir(folder).refuse_others(config), stored_config(["evaluate", f"--workdir={folder}"])
    ),
    "partition.json": lambda folder, _: Workdir(folder).refuse_other_data({"partition": "0" * 64}),
    "inputs.json": lambda folder, config: (
        Workdir(folder).check_done(config), Workdir(folder).refuse_other_data({"partition": "0" * 64})
    ),
    "metrics.jsonl": lambda folder, config: Workdir(folder).keep_metrics(1, config),
    "baselines.json": lambda folder, _: read_baselines(folder / "baselines.json"),
    "summary.json": lambda folder, _: method_table(read_summary(folder / "summary.json")),
    "engine.json": lambda folder, _: stored(folder / "engine.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_run_that_goes_on_tells_damage_in_one_line(finished, tmp_path, name):
    folder, config = tmp_path / "run", finished[1]
    folder.mkdir()
    shutil.copy(finished[0] / name, folder)
    cases = list(damages(folder / name))
    assert len(cases) > 80
    for what, content in cases:
        (folder / name).write_bytes(content)
        assert len(outcome(lambda: READERS[name](folder, config)) or "") < 1500, what


def sweep_line(point: int) -> dict:
    entry = {"test_accuracy": 0.5, "validation_accuracy": 0.6, "rounds": 1, "total_bytes": 8, "seconds_per_round": None}
    return {
        "point": point, "diverged": False, "methods": {"zero_shot": entry, "cachefl": entry},
        "curve": {"round": [1], "test": [0.5], "validation": [0.6]}, "keys_sha256": "0" * 64,
        "overrides": {"seed": point, "methods": ["cachefl"]}, "command": "python -m experiments.run",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["results.jsonl", "sweep.json"])
def test_a_sweep_that_goes_on_tells_damage_in_one_line(tmp_path, name):
    config = default()
    folder, lines = tmp_path, [json.dumps(sweep_line(point)) + "\n" for point in range(2)]
    (folder / "results.jsonl").write_text("".join(lines))
    (folder / "sweep.json").write_text(json.dumps([resolved(config)] * 2))
    assert len(claim(folder, [config] * 2)) == 2
    for what, content in damages(folder / name):
        (folder / name).write_bytes(content)
        line = outcome(lambda: ranking(list(claim(folder, [config] * 2).values()), [config] * 2))
        assert len(line or "") < 1500, what


@pytest.mark.parametrize("name", ["summary.json", "partition.json", "metrics.jsonl", "baselines.json", "partition.npz"])
def test_the_mend_that_is_named_works(finished, tmp_path, name):
    folder, config = tmp_path / "run", finished[1]
    shutil.copytree(finished[0], folder)
    (folder / name).write_bytes(b"[")
    line = outcome(
        lambda: page.render(read_runs([folder])) if name != "baselines.json" else read_baselines(folder / name)
    )
    assert "mend: repeat the run's own command without this file and summary.json" in line
    for mended in (name, "summary.json"):
        (folder / mended).unlink(missing_ok=True)
    train_and_evaluate(config, folder)
    page.render(read_runs([folder]))
    for same in ("cache.safetensors", "partition.npz", "partition.json"):
        assert (folder / same).read_bytes() == (finished[0] / same).read_bytes()


@pytest.mark.parametrize("what", [*DAMAGE, *BROKEN])
def test_damaged_names_in_the_cache_and_digests_of_a_checkpoint_are_told(finished, tmp_path, what):
    token = DAMAGE.get(what) or BROKEN.get(what) or b""
    text = token.decode("utf-8", "replace")
    write_tensors(tmp_path / "cache.safetensors", {"keys": np.zeros((4, 2, 8), np.float32)}, {"class_names": text})
    with pytest.raises(UsageError, match=r"--workdir: got .*cache\.safetensors"):
        read_cache(tmp_path / "cache.safetensors")
    shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "1.json").write_bytes(token)
    # An object that names no file is what an older version leaves: nothing.
    expected = "" if what == "object" else "1.json beside it cannot be read"
    assert fault(tmp_path / "checkpoints", 1) == expected
