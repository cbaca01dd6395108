"""Files appear whole or not at all, and the same content gives the same bytes."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import read_arrays
from cachefl_jax.storage.files import json_if_whole, read_json, write_arrays, write_json, write_tensors, write_whole
from cachefl_jax.storage.home import home


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_and_json_read_back(tmp_path):
    arrays = {"a": np.arange(5), "b": np.ones((2, 3), np.float32)}
    write_arrays(tmp_path / "new" / "arrays.npz", arrays)
    back = read_arrays("field", tmp_path / "new" / "arrays.npz", arrays)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    write_json(tmp_path / "value.json", {"x": [1, None]})
    assert read_json(tmp_path / "value.json") == {"x": [1, None]}


def test_arrays_are_compressed(tmp_path):
    """Who holds what of 1,000,000 clients is 104 MB of small numbers, and compresses to a tenth."""
    arrays = {"offsets": np.arange(0, 300_000, 3), "counts": np.eye(300, dtype=np.int64)}
    write_arrays(tmp_path / "arrays.npz", arrays)
    assert (tmp_path / "arrays.npz").stat().st_size < sum(array.nbytes for array in arrays.values()) / 5


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "value.json", {"x": float("nan")})
    assert not (tmp_path / "value.json").exists()


def test_json_that_is_not_there_or_broken_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    reasons = {"broken.json": "JSONDecodeError", "none.json": "FileNotFoundError", "deep.json": "RecursionError"}
    for name, reason in reasons.items():
        with pytest.raises(UsageError, match=rf"{name} \({reason}\)"):
            read_json(tmp_path / name)


WRITE = """
import sys, pathlib, numpy as np
from cachefl_jax.storage.files import write_arrays, write_tensors
keys, metadata = np.arange(24, dtype=np.float32).reshape(2, 3, 4), {name: name for name in "abcdefgh"}
write_tensors(pathlib.Path(sys.argv[1]), {"keys": keys, "other": keys[0]}, metadata)
write_arrays(pathlib.Path(sys.argv[2]), {"keys": keys})
"""


def test_every_process_writes_the_same_bytes(tmp_path):
    """safetensors orders its metadata anew in every process, and NumPy's archives hold the time of day."""
    for number in "12":
        words = [sys.executable, "-c", WRITE, str(tmp_path / f"tensors{number}"), str(tmp_path / f"arrays{number}")]
        subprocess.run(words, check=True)
    for name in ("tensors", "arrays"):
        assert (tmp_path / f"{name}1").read_bytes() == (tmp_path / f"{name}2").read_bytes()


def test_sorted_tensors_are_still_safetensors(tmp_path):
    tensors = {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3), "a": np.ones(5, np.float32)}
    write_tensors(tmp_path / "file", tensors, {"note": 'with "quotes" and ü'})
    back = load_file(tmp_path / "file")
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[" * 100_000])
def test_what_can_be_made_again_counts_as_missing_where_it_is_damaged(tmp_path, content):
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    assert json_if_whole(path) is None
    write_json(path, {"x": [1]})
    assert json_if_whole(path) == {"x": [1]}


@pytest.mark.parametrize("name", ["file", "~nobody_at_all/store", "gs://bucket/store"])
def test_a_store_that_is_no_folder_is_told_by_its_variable(tmp_path, monkeypatch, name):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / name) if name == "file" else name)
    with pytest.raises(UsageError, match=r"CACHEFL_HOME: got .*allowed: .*folder"):
        home()
