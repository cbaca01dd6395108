"""A checkpoint is named by what it holds, and hashed once."""

import hashlib
import os
import pathlib
import shutil
import time

import pytest

from cachefl_jax.clip.checkpoint import POCKET, counted_files
from cachefl_jax.clip.digest import weights_digest


@pytest.fixture
def copy(tmp_path) -> pathlib.Path:
    """The pocket checkpoint elsewhere."""
    return pathlib.Path(shutil.copytree(POCKET, tmp_path / "copy"))


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that were hashed; all files count as written an hour ago."""
    names, file_digest, stamp = [], hashlib.file_digest, time.time_ns
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: names.append(file.name) or file_digest(file, kind))
    monkeypatch.setattr(time, "time_ns", lambda: stamp() + 3600 * 10**9)
    return names


def test_neither_place_nor_other_files_change_it(copy, tmp_path):
    (copy / "pytorch_model.bin").write_bytes(b"pickled")
    (copy / "README.md").write_text("read me")
    (copy / "onnx").mkdir()
    assert weights_digest(copy, tmp_path) == weights_digest(POCKET, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "merges.txt", "preprocessor_config.json"])
def test_every_byte_that_counts_changes_it(copy, tmp_path, hashed, name):
    before = weights_digest(copy, tmp_path)
    data = bytearray((copy / name).read_bytes())
    data[-3] ^= 1
    (copy / name).write_bytes(data)
    hashed.clear()
    assert weights_digest(copy, tmp_path) != before
    assert hashed == [str(copy / name)]


def test_a_file_is_hashed_once(copy, tmp_path, hashed):
    first = weights_digest(copy, tmp_path)
    assert len(hashed) == len(counted_files(copy))
    hashed.clear()
    assert weights_digest(copy, tmp_path) == first
    assert hashed == []
    (copy / "merges.txt").rename(copy / "other.txt")
    assert weights_digest(copy, tmp_path) != first


def test_a_file_written_just_now_is_hashed_again(copy, tmp_path, monkeypatch):
    for path in copy.iterdir():
        os.utime(path)
    first = weights_digest(copy, tmp_path)
    names, file_digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: names.append(file.name) or file_digest(file, kind))
    assert weights_digest(copy, tmp_path) == first
    assert len(names) == len(counted_files(copy))


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 100_000, '{"model.safetensors": 3}', '{"model.safetensors": {"sha256": "0"}}']
)
def test_a_damaged_memory_is_no_memory(copy, tmp_path, text):
    first = weights_digest(copy, tmp_path / "a")
    place = hashlib.sha256(os.fsencode(copy.resolve())).hexdigest()[:16]
    (tmp_path / "b" / "digests").mkdir(parents=True)
    (tmp_path / "b" / "digests" / f"{place}.json").write_text(text)
    assert weights_digest(copy, tmp_path / "b") == first


def test_a_store_that_cannot_be_written_is_no_hindrance(copy, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert weights_digest(copy, tmp_path / "file") == weights_digest(copy, tmp_path)
