"""experiments.features: tables of CACHEFL_HOME, a check of every byte, and pruning by a named criterion alone."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from cachefl_jax.data.feature_store import Record, obtain, obtain_record
from cachefl_jax.storage.entries import KINDS, delete, entries, faults, to_prune
from cachefl_jax.storage.home import locked
from cachefl_jax.storage.leftovers import HOST
from cachefl_jax.synthesis import Drawing, generator, request_of
from cachefl_jax.synthesis import obtain as draw_set
from cachefl_jax.synthesis.descriptions import Described
from cachefl_jax.synthesis.prompts_store import obtain_prompts

DAY = 24 * 3600


def run(root, *arguments: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "experiments.features", *arguments]
    environment = os.environ | {"CACHEFL_HOME": str(root)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def blocks(start: int):
    yield np.ones((100, 1024), np.float32)[start:]


def stopped(start: int):
    yield np.ones((10, 1024), np.float32)
    raise KeyboardInterrupt


@pytest.fixture
def store(tmp_path):
    """Training features used now, a text record used ten days ago, and test features that were not finished."""
    views = {"count": 10, "use": "average", "seed": 0}
    made_of = {"weights": "a" * 64, "images": "train", "views": views}
    obtain(made_of, (100,), blocks, "pets, train", {"encoder": "openai/clip-vit-base-patch32"}, tmp_path)
    record = Record({"text": np.ones((3, 8), np.float32)}, {"logit_scale": 100.0})
    obtain_record({"weights": "a" * 64, "texts": ["x"]}, lambda: record, "pets, texts", {"encoder": "pocket"}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        obtain({"weights": "a" * 64, "images": "test"}, (100,), stopped, "pets, test", root=tmp_path)
    for entry in entries(tmp_path):
        if entry.manifest["what"] == "pets, texts":
            os.utime(entry.folder / "manifest.json", (time.time() - 10 * DAY,) * 2)
    return tmp_path


def names(root) -> list[str]:
    return [entry.manifest["what"] for entry in entries(root)]


def test_the_table_tells_what_each_entry_is(store):
    done = run(store, "list")
    assert done.returncode == 0, done.stderr
    features, totals = done.stdout.split("\n\n")
    heading, *lines = features.splitlines()
    assert heading.split() == "features rows x D MiB encoder views made last used".split()
    by_name = {line.split("  ")[0]: line for line in lines}
    assert set(by_name) == {"pets, train", "pets, texts", "pets, test (not finished)"}
    for part in ("100 x 1024", "0.4", "openai/clip-vit-base-patch32", "10, average", time.strftime("%Y-")):
        assert part in by_name["pets, train"]
    assert "3 x 8" in by_name["pets, texts"]
    assert lines[-1] == by_name["pets, texts"]  # used longest ago
    assert totals.splitlines()[1].split() == ["features", "3", "0.4"]
    assert totals.endswith("\n3 entries, 0.4 MiB\n")


def test_an_empty_store_is_an_empty_table(tmp_path):
    assert run(tmp_path / "none", "list").stdout.endswith("\n0 entries, 0.0 MiB\n")
    assert not (tmp_path / "none").exists()


def test_verifying_finds_a_changed_byte_that_opening_does_not_look_for(store):
    done = run(store, "verify")
    assert (done.returncode, done.stdout) == (0, "2 entries, 0 damaged; 1 not finished\n"), done.stderr
    path = next(entry.folder for entry in entries(store) if entry.manifest["what"] == "pets, train") / "features.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = run(store, "verify")
    assert done.returncode == 1
    assert f"{path.parent}: features.npy has other bytes than were written; delete it" in done.stdout
    path.unlink()
    assert "cannot be read (FileNotFoundError)" in run(store, "verify").stdout


def test_using_an_entry_marks_it_as_used(store):
    obtain_record({"weights": "a" * 64, "texts": ["x"]}, None, "pets, texts", root=store)
    assert names(store)[0] == "pets, texts"


def test_pruning_by_age_takes_what_was_not_used(store):
    done = run(store, "prune", "--older_than_days=9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("deleted pets, texts, 0.0 MiB, ")
    assert done.stdout.endswith("\n0.0 MiB freed\n")
    assert sorted(names(store)) == ["pets, test", "pets, train"]


def test_pruning_by_size_keeps_the_last_used(store):
    for age, entry in enumerate(entries(store)):
        for path in entry.folder.iterdir():
            os.utime(path, (time.time() - age * DAY,) * 2)
    first, *_ = names(store)
    keep = (entries(store)[0].byte_count + 1000) / 2**30
    assert run(store, "prune", f"--keep_gib={keep}").stdout.count("deleted ") == 2
    assert names(store) == [first]
    run(store, "prune", "--keep_gib=0")
    assert names(store) == []


def test_pruning_everything_says_what_it_frees(store):
    done = run(store, "prune", "--all")
    assert done.stdout.count("deleted ") == 3
    assert done.stdout.endswith("0.4 MiB freed\n")
    assert list((store / "features").iterdir()) == []


def test_what_a_run_is_computing_stays(store):
    partial = next(entry for entry in entries(store) if not entry.whole)
    folder = partial.folder.with_name(partial.folder.name[1:].removesuffix(".partial"))
    with locked(folder, None) as held:
        assert held
        done = run(store, "prune", "--all")
        assert "kept, a run is computing it: pets, test (not finished)" in done.stdout, done.stderr
        assert not delete(partial)
    assert names(store) == ["pets, test"]
    assert delete(partial)


def test_features_that_a_run_has_open_stay_readable(store):
    made_of = {"weights": "a" * 64, "images": "train", "views": {"count": 10, "use": "average", "seed": 0}}
    opened = obtain(made_of, (100,), None, "pets, train", root=store)
    run(store, "prune", "--all")
    assert np.asarray(opened).sum() == 100 * 1024


def test_criteria_are_joined_by_or(store):
    found, now = entries(store), time.time()
    assert to_prune(found, None, None, now) == []
    assert [entry.manifest["what"] for entry in to_prune(found, 9, None, now)] == ["pets, texts"]
    assert len(to_prune(found, 9, 1.0, now)) == 1
    assert len(to_prune(found, 9, 0.0, now)) == 3
    assert to_prune(found, 11, 1.0, now) == []


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"arrays": {"features.npy": 3}}', '{"arrays": {}, "made_of": 3}', '{"arrays": {}, "made_at": 3}',
        '{"arrays": {"features.npy": {"shape": 3}}}', '{"arrays": {}, "made_of": {"views": {"count": 3}}}',
    ],
)  # fmt: skip
def test_an_unreadable_manifest_is_listed_and_told(store, content):
    entry = entries(store)[0]
    (entry.folder / "manifest.json").write_text(content)
    assert "3 entries" in run(store, "list").stdout
    damaged = next(other for other in entries(store) if other.folder == entry.folder)
    assert faults(damaged) == ["manifest.json is damaged"] or not entry.whole


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "command line: got nothing to do; allowed: list | verify | prune"),
        (["lst"], "command line: got lst; allowed: list | verify | prune"),
        (["prune"], "prune: got nothing that says what to delete; allowed: --older_than_days, --keep_gib or --all"),
        (["prune", "--older_than_days=-1"], "older_than_days: got -1"),
        (["prune", "--keep_gib=many"], "keep_gib: got many"),
        (["list", "more"], "command line: got more"),
    ],
)
def test_bad_input_is_told_in_one_line(store, words, part):
    done = run(store, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(part)
    assert len(done.stderr.strip().splitlines()) == 1
    assert len(names(store)) == 3


OLD = time.time() - 10 * DAY


def write(path: pathlib.Path, data: bytes = b"{}", time: float | None = None) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if time is not None:
        os.utime(path, (time, time))
    return path


REQUEST = request_of("pocket", ("two", "seven"), ("the digit {}.",), 3, Drawing(2, 1.5), seed=0)


@pytest.fixture
def home(store, monkeypatch):
    """Every store: a drawn set and one that was stopped, programs, plans, verdicts, digests; some not used of late."""

    @contextlib.contextmanager
    def fake(pipeline, prompts, how):
        def draw(some, seeds):
            images = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed in seeds]
            return np.stack(images), np.zeros(len(seeds), bool)

        yield draw

    monkeypatch.setattr(generator, "drawing", fake)
    draw_set(REQUEST, store)
    write(store / "synthetic" / f".{'a' * 16}.partial" / "manifest.json")
    write(store / "compiled" / "jit_new-cache", bytes(2**20))
    write(store / "compiled" / "jit_old-cache", bytes(2**20), OLD)
    for kind in ("plans", "checked", "digests"):
        write(store / kind / "new.json")
        write(store / kind / "old.json", time=OLD)
    return store


def files_of(root: pathlib.Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_every_kind_is_listed_with_what_it_takes(home):
    _, drawn, totals = run(home, "list").stdout.split("\n\n")
    (line, unfinished) = sorted(drawn.splitlines()[1:], key=lambda text: "not finished" in text)
    assert line.split()[1:5] == ["2", "6", "0.0", "pocket"]
    assert f"{'a' * 16} (not finished)" in unfinished
    lines = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in totals.splitlines()[:-1]}
    assert lines["compiled programs"] == ["2", "2.0"]
    expected = {"features": "3", "synthetic sets": "2", "plans": "2", "verdicts on images": "2"}
    assert {name: lines[name][0] for name in expected} == expected
    assert totals.endswith("\n13 entries, 2.4 MiB\n")


def test_every_kind_is_verified(home):
    assert "11 entries, 0 damaged; 2 not finished" in run(home, "verify").stdout
    (folder,) = (path for path in (home / "synthetic").iterdir() if not path.name.startswith("."))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"images_sha256": "0" * 64}))
    write(home / "plans" / "new.json", b"{")
    done = run(home, "verify")
    assert done.returncode == 1
    assert f"{folder}: manifest.json: got other content than was drawn; delete it" in done.stdout
    assert f"{home / 'plans' / 'new.json'}: cannot be read (JSONDecodeError); delete it" in done.stdout


def test_prompts_are_listed_verified_and_pruned(tmp_path):
    described = Described(("a cat.",), {})
    obtain_prompts({"seed": 0}, {"model": "grammar"}, ("cat",), lambda: lambda name: described, tmp_path)
    _, prompts, totals = run(tmp_path, "list").stdout.split("\n\n")
    assert prompts.splitlines()[0].split() == ["sets", "of", "prompts", "model", "MiB", "made", "last", "used"]
    assert prompts.splitlines()[1].split()[:6] == ["prompts", "of", "1", "classes", "grammar", "0.0"]
    assert [line.split()[-2:] for line in totals.splitlines() if "prompts" in line] == [["1", "0.0"]]
    assert run(tmp_path, "verify").stdout == "1 entries, 0 damaged; 0 not finished\n"
    (entry,) = entries(tmp_path, "prompts")
    write(entry.folder / "prompts.json", b'{"prompts": {"cat": ["a dog."]}}')
    assert f"{entry.folder}: prompts.json has other bytes than were written" in run(tmp_path, "verify").stdout
    run(tmp_path, "prune", "--all")
    assert entries(tmp_path, "prompts") == []


def test_what_was_not_used_goes_of_every_kind(home):
    done = run(home, "prune", "--older_than_days=9")
    assert done.returncode == 0, done.stderr
    for part in ("deleted pets, texts, ", "deleted 1 compiled programs, 1.0 MiB", "deleted 1 plans, 0.0 MiB"):
        assert part in done.stdout
    assert done.stdout.endswith("\n1.0 MiB freed\n")
    left = files_of(home)
    assert not [name for name in left if "old" in name]
    assert len([name for name in left if "new" in name]) == 4


def test_everything_is_everything_but_what_is_held(home):
    write(home / "notes.txt")
    with locked(home / "synthetic" / ("a" * 16), None):
        done = run(home, "prune", "--all")
        assert f"kept, a run is computing it: {'a' * 16} (not finished)" in done.stdout, done.stderr
    assert files_of(home) == {"notes.txt", f"synthetic/.{'a' * 16}.partial/manifest.json"}
    run(home, "prune", "--all")
    assert files_of(home) == {"notes.txt"}  # no store's


def test_what_killed_processes_left_goes_from_every_store(home):
    """What a living process writes stays, and so does what a run goes on from."""
    dead, living = f"{HOST}.{2**22 + 1}", f"{HOST}.{os.getppid()}"
    gone = [
        write(home / kind / name)
        for kind in KINDS
        for name in (f".x.json.{dead}.0123abcd.tmp", f".x.{'0' * 32}/images.npz", ".x.lock")
    ]
    gone += [write(home / "checked" / ".x.json.abcd_123", time=OLD)]
    gone += [write(home / "synthetic" / f".{'a' * 16}.partial" / f".block-000000.npz.{dead}.0123abcd.tmp")]
    stays = [write(home / kind / f".x.json.{living}.0123abcd.tmp") for kind in KINDS]
    before = files_of(home) - {path.relative_to(home).as_posix() for path in gone}
    done = run(home, "prune", "--older_than_days=1000")
    assert done.returncode == 0, done.stderr
    assert files_of(home) == before
    assert all(path.is_file() for path in stays)
    assert not list(home.rglob(f".x.{'0' * 32}"))
