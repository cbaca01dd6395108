"""The feature store: computed once, resumed where a run was killed, whole or not there, one line for every fault."""

import io
import json
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cachefl_jax.data import feature_blocks
from cachefl_jax.data.feature_store import Record, digest_of, obtain, obtain_record
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.home import MANIFEST
from cachefl_jax.storage.leftovers import HOST

ROWS, WIDTH, BATCH = 50, 6, 8
MADE_OF = {"weights": "a" * 64, "images": "b" * 64, "dtype": "float32", "preparation": {"crop": [4, 4]}, "views": None}


def features(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)


class Source:
    """Blocks of `features`, and the rows from which they were asked for."""

    def __init__(self, stop_before: int | None = None, rows: int = ROWS, error: BaseException | None = None):
        self.starts, self.stop_before, self.rows = [], stop_before, rows
        self.error = error or KeyboardInterrupt()

    def __call__(self, start: int):
        self.starts.append(start)
        for row in range(start, self.rows, BATCH):
            if self.stop_before is not None and row >= self.stop_before:
                raise self.error
            yield features(self.rows)[row : row + BATCH]


def never(start: int):
    raise AssertionError("asked to compute what is there")


def folders(root: pathlib.Path) -> list[str]:
    return sorted(path.name for path in (root / "features").iterdir())


def entry(root: pathlib.Path) -> pathlib.Path:
    return root / "features" / digest_of(MADE_OF)[:16]


def test_features_are_computed_once_and_mapped_read_only(tmp_path):
    source = Source()
    first = obtain(MADE_OF, (ROWS,), source, "train", root=tmp_path)
    second = obtain(MADE_OF, (ROWS,), never, "train", root=tmp_path)
    assert source.starts == [0]
    for array in (first, second):
        assert (array.dtype, array.shape) == (np.float32, (ROWS, WIDTH))
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, features())
    assert folders(tmp_path) == [entry(tmp_path).name]
    assert sorted(path.name for path in entry(tmp_path).iterdir()) == ["features.npy", MANIFEST]


def test_the_manifest_tells_what_made_the_features(tmp_path):
    obtain(MADE_OF, (ROWS,), Source(), "train", {"encoder": "pocket"}, tmp_path)
    manifest = json.loads((entry(tmp_path) / MANIFEST).read_text())
    assert manifest["made_of"] == MADE_OF
    assert (manifest["what"], manifest["about"]) == ("train", {"encoder": "pocket"})
    assert manifest["digest"] == digest_of(MADE_OF)
    assert manifest["arrays"]["features.npy"]["shape"] == [ROWS, WIDTH]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "c"},
        {"images": "c"},
        {"dtype": "bfloat16"},
        {"views": {"count": 2}},
        {"preparation": {"crop": None}},
    ],
)
def test_whatever_made_them_names_them(tmp_path, change):
    source = Source()
    obtain(MADE_OF, (ROWS,), source, "train", root=tmp_path)
    obtain(MADE_OF | change, (ROWS,), source, "train", root=tmp_path)
    assert source.starts == [0, 0]
    assert len(folders(tmp_path)) == 2
    assert digest_of(MADE_OF) == digest_of(dict(reversed(MADE_OF.items())))


def test_several_leading_axes_are_filled_row_by_row(tmp_path):
    stacked = obtain(MADE_OF, (2, 25), Source(), "train", root=tmp_path)
    np.testing.assert_array_equal(stacked, features().reshape(2, 25, WIDTH))


@pytest.mark.parametrize("stop_before", [0, 8, 24, 48])
def test_a_run_that_was_stopped_is_gone_on_with(tmp_path, capfd, stop_before):
    with pytest.raises(KeyboardInterrupt):
        obtain(MADE_OF, (ROWS,), Source(stop_before), "train", root=tmp_path)
    assert folders(tmp_path) == ([f".{entry(tmp_path).name}.partial"] if stop_before else [])
    source = Source()
    again = obtain(MADE_OF, (ROWS,), source, "train", root=tmp_path)
    assert source.starts == [stop_before]
    assert (f"train: going on at row {stop_before} of 50" in capfd.readouterr().err) == (stop_before > 0)
    obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path / "undisturbed")
    undisturbed = tmp_path / "undisturbed" / "features" / entry(tmp_path).name / "features.npy"
    assert (entry(tmp_path) / "features.npy").read_bytes() == undisturbed.read_bytes()
    np.testing.assert_array_equal(again, features())


def test_what_a_killed_process_was_writing_is_no_part_of_the_entry(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        obtain(MADE_OF, (ROWS,), Source(24), "train", root=tmp_path)
    aside = tmp_path / "features" / folders(tmp_path)[0]
    for name in (f".manifest.json.{HOST}.{2**22 + 1}.0123abcd.tmp", ".manifest.json.abcd_123"):
        (aside / name).write_text("{")
    obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path)
    assert sorted(path.name for path in entry(tmp_path).iterdir()) == ["features.npy", "manifest.json"]


KILLED = """
import os, pathlib, signal, sys
import numpy as np
sys.path.insert(0, "tests/data")
from test_feature_store import MADE_OF, ROWS, Source
from cachefl_jax.data.feature_store import obtain

class Killed(Source):
    def __call__(self, start):
        for row, block in zip(range(start, ROWS, 8), super().__call__(start)):
            if row == 24:
                os.kill(os.getpid(), signal.SIGKILL)
            yield block

obtain(MADE_OF, (ROWS,), Killed(), "train", root=pathlib.Path(sys.argv[1]))
"""


def test_a_killed_process_loses_no_whole_block(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    source = Source()
    obtain(MADE_OF, (ROWS,), source, "train", root=tmp_path)
    assert source.starts == [24]
    obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path / "undisturbed")
    undisturbed = tmp_path / "undisturbed" / "features" / entry(tmp_path).name / "features.npy"
    assert (entry(tmp_path) / "features.npy").read_bytes() == undisturbed.read_bytes()
    assert folders(tmp_path) == [entry(tmp_path).name]  # the killed run's lock is gone too


def torn_block(aside: pathlib.Path) -> int:
    with (aside / "features.npy").open("ab") as file:
        file.write(b"half a block")
    return 24


def torn_line(aside: pathlib.Path) -> int:
    path = aside / "progress.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    return 16


def lost_block(aside: pathlib.Path) -> int:
    """As after a power cut: the line is there, the rows are not."""
    path = aside / "features.npy"
    path.write_bytes(path.read_bytes()[:-40])
    return 16


def changed_block(aside: pathlib.Path) -> int:
    path = aside / "features.npy"
    data = bytearray(path.read_bytes())
    data[128 + 8 * WIDTH * 4 + 3] ^= 1
    path.write_bytes(data)
    return 8


def no_progress(aside: pathlib.Path) -> int:
    (aside / "progress.jsonl").unlink()
    return 0


def another_header(aside: pathlib.Path) -> int:
    path = aside / "features.npy"
    path.write_bytes(feature_blocks.header((ROWS, WIDTH + 1)) + path.read_bytes()[128:])
    return 0


def nested_line(aside: pathlib.Path) -> int:
    path = aside / "progress.jsonl"
    path.write_text("[" * 100_000 + "\n")
    return 0


HARMS = [torn_block, torn_line, lost_block, changed_block, no_progress, another_header, nested_line]


@pytest.mark.parametrize("harm", HARMS)
def test_of_what_was_left_only_what_is_sound_is_kept(tmp_path, harm):
    with pytest.raises(KeyboardInterrupt):
        obtain(MADE_OF, (ROWS,), Source(24), "train", root=tmp_path)
    sound = harm(entry(tmp_path).with_name(f".{entry(tmp_path).name}.partial"))
    twice = Source(40)
    with pytest.raises(KeyboardInterrupt):
        obtain(MADE_OF, (ROWS,), twice, "train", root=tmp_path)
    source = Source()
    np.testing.assert_array_equal(obtain(MADE_OF, (ROWS,), source, "train", root=tmp_path), features())
    assert (twice.starts, source.starts) == ([sound], [40])


def test_two_runs_at_once_compute_once(tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(start: int):
        begun.set()
        assert go_on.wait(30)
        yield from Source()(start)

    def second_run() -> np.ndarray:
        assert begun.wait(30)
        return obtain(MADE_OF, (ROWS,), never, "train", root=tmp_path)

    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(obtain, MADE_OF, (ROWS,), slow, "train", root=tmp_path), pool.submit(second_run)]
        try:
            while not told.getvalue().endswith("\n") and not runs[1].done():
                time.sleep(0.01)
        finally:
            go_on.set()
        first, second = (run.result() for run in runs)
    assert told.getvalue() == "train: another run computes these features; waiting for it\n"
    np.testing.assert_array_equal(first, second)
    assert folders(tmp_path) == [entry(tmp_path).name]


def test_a_run_that_waited_for_one_that_failed_computes_itself(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def failing(start: int):
        begun.set()
        assert go_on.wait(30)
        yield from Source(16)(start)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(obtain, MADE_OF, (ROWS,), failing, "train", root=tmp_path)
        assert begun.wait(30)
        source = Source()
        second = pool.submit(obtain, MADE_OF, (ROWS,), source, "train", root=tmp_path)
        go_on.set()
        np.testing.assert_array_equal(second.result(), features())
        assert isinstance(first.exception(), KeyboardInterrupt)
    assert source.starts == [16]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A limit on the size of files stands for the disk."""
    rows = 20_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(UsageError, match=r"^CACHEFL_HOME: got .*partial \(File too large\).*make room") as refusal:
            obtain(MADE_OF, (rows,), Source(rows=rows), "train", root=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(refusal.value)
    source = Source(rows=rows)
    np.testing.assert_array_equal(obtain(MADE_OF, (rows,), source, "train", root=tmp_path), features(rows))
    held = (300_000 - len(feature_blocks.header((rows, WIDTH)))) // (4 * WIDTH)
    assert 0 < source.starts[0] <= held


def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="^CACHEFL_HOME: got .*file"):
        obtain(MADE_OF, (ROWS,), never, "train", root=tmp_path / "file")


def test_what_the_encoder_raises_is_raised_as_it_is(tmp_path):
    error = OSError("the images' disk")
    with pytest.raises(OSError, match="the images' disk") as raised:
        obtain(MADE_OF, (ROWS,), Source(8, error=error), "train", root=tmp_path)
    assert raised.value is error


def test_blocks_that_do_not_add_up_are_no_entry(tmp_path):
    for rows in (ROWS - 1, ROWS + 1):
        with pytest.raises(ValueError, match="train: "):
            obtain(MADE_OF, (rows,), Source(), "train", root=tmp_path / str(rows))
        assert not entry(tmp_path / str(rows)).exists()
    with pytest.raises(ValueError, match="the blocks ended at row 8 of 50"):
        obtain(MADE_OF, (ROWS,), Source(rows=8), "train", root=tmp_path)


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:200])


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def lengthen(folder: pathlib.Path) -> None:
    with (folder / "features.npy").open("ab") as file:
        file.write(b"more")


def another_array(folder: pathlib.Path) -> None:
    np.save(folder / "features.npy", np.zeros((3, 2), np.float32))


def pickled(folder: pathlib.Path) -> None:
    np.save(folder / "features.npy", np.array([object()]))


def nested_manifest(folder: pathlib.Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000)


def another_manifest(folder: pathlib.Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"digest": "f" * 64}))


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (cut("features.npy"), "features.npy"),
        (remove("features.npy"), "features.npy"),
        (lengthen, "features.npy"),
        (another_array, "features.npy"),
        (pickled, "features.npy"),
        (cut(MANIFEST), MANIFEST),
        (remove(MANIFEST), MANIFEST),
        (another_manifest, MANIFEST),
        (nested_manifest, MANIFEST),
    ],
)
def test_a_damaged_entry_is_refused_by_name(tmp_path, harm, file):
    obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path)
    harm(entry(tmp_path))
    with pytest.raises(UsageError, match=f"delete {entry(tmp_path)} and it is computed again") as refusal:
        obtain(MADE_OF, (ROWS,), never, "train", root=tmp_path)
    assert refusal.value.field == str(entry(tmp_path) / file)
    assert "\n" not in str(refusal.value)
    shutil.rmtree(entry(tmp_path))
    np.testing.assert_array_equal(obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path), features())


def test_records_keep_small_arrays_and_facts(tmp_path):
    record = Record({"text": features(4), "rows": np.arange(3)}, {"logit_scale": 14.25, "model_bytes": 10**12})
    made = obtain_record(MADE_OF, lambda: record, "texts", root=tmp_path)
    read = obtain_record(MADE_OF, lambda: never(0), "texts", root=tmp_path)
    for result in (made, read):
        assert result.facts == record.facts
        assert result.arrays.keys() == record.arrays.keys()
        np.testing.assert_array_equal(result.arrays["text"], features(4))
        np.testing.assert_array_equal(result.arrays["rows"], np.arange(3))


def test_a_record_whose_computing_fails_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError):
        obtain_record(MADE_OF, lambda: 1 / 0, "texts", root=tmp_path)
    assert folders(tmp_path) == []  # what was refused leaves nothing to prune
    assert obtain_record(MADE_OF, lambda: Record({}, {"a": 1}), "texts", root=tmp_path).facts == {"a": 1}


def test_the_place_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    obtain(MADE_OF, (ROWS,), Source(), "train")
    assert entry(tmp_path / "home").is_dir()


def test_reading_needs_neither_jax_nor_transformers(tmp_path):
    obtain(MADE_OF, (ROWS,), Source(), "train", root=tmp_path)
    code = f"""
import pathlib, sys
from cachefl_jax.data.feature_store import obtain
print(obtain({MADE_OF!r}, ({ROWS},), None, "train", root=pathlib.Path({str(tmp_path)!r})).shape)
assert not {{"jax", "flax", "torch", "transformers", "sklearn"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"({ROWS}, {WIDTH})\n", done.stderr
