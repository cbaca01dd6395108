"""A set in the store that is not as it was written is refused by name."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from synthesis.drawn_sets import REQUEST, folders, line_of

from cachefl_jax.data import file_bytes
from cachefl_jax.data.images import read_image
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import obtain
from cachefl_jax.synthesis.picture_files import encode_picture, facts_in
from cachefl_jax.synthesis.verify import verify


def change_pixel(folder: pathlib.Path) -> None:
    path = folder / line_of(folder, 4)["name"]
    pixels = np.asarray(read_image(str(path))).copy()
    pixels[0, 0, 0] ^= 1
    path.write_bytes(encode_picture(pixels, facts_in(str(path)), "png"))


def swap_files(folder: pathlib.Path) -> None:
    one, other = (folder / line_of(folder, row)["name"] for row in (0, 4))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def change_seed(folder: pathlib.Path) -> None:
    text = (folder / "files.jsonl").read_text()
    (folder / "files.jsonl").write_text(text.replace('"seed": ', '"seed": 1', 1))


def change_prompt(folder: pathlib.Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["prompts"][0][0] = "the digit three."
    (folder / "manifest.json").write_text(json.dumps(manifest))


def cut(name: str):
    def act(folder: pathlib.Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:200])

    return act


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def nest(folder: pathlib.Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def older(folder: pathlib.Path) -> None:
    np.savez(folder / "images.npz", images=np.zeros((6, 8, 8, 3), np.uint8), labels=np.repeat([0, 1], 3))
    shutil.rmtree(folder / "images")


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (change_pixel, "images/0001/000004.png"),
        (swap_files, "images/0000/000000.png"),
        (cut("images/0001/000005.png"), "images/0001/000005.png"),
        (remove("images/0000/000002.png"), "images/0000/000002.png"),
        (change_seed, "manifest.json"),
        (change_prompt, "manifest.json"),
        (cut("files.jsonl"), "files.jsonl"),
        (remove("files.jsonl"), "files.jsonl"),
        (nest, "manifest.json"),
        (cut("manifest.json"), "manifest.json"),
        (remove("manifest.json"), "manifest.json"),
        (older, "images.npz"),
    ],
)
def test_a_damaged_set_is_refused_by_name(calls, tmp_path, harm, file):
    obtain(REQUEST, tmp_path)
    folder = folders(tmp_path)[0]
    harm(folder)
    with pytest.raises(UsageError) as refusal:
        obtain(REQUEST, tmp_path)
    assert refusal.value.field == str(folder / file)
    assert f"delete {folder}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert verify(folder).faults
    shutil.rmtree(folder)
    obtain(REQUEST, tmp_path)
    assert len(calls) == 2


def test_what_was_read_is_not_read_again_until_its_files_change(calls, tmp_path, monkeypatch):
    obtain(REQUEST, tmp_path)
    monkeypatch.setattr("cachefl_jax.storage.home.SETTLED", -(10**12))  # as if the files were old
    obtain(REQUEST, tmp_path)
    read, real = [], file_bytes.digest_or_not
    monkeypatch.setattr(file_bytes, "digest_or_not", lambda path: read.append(path) or real(path))
    obtain(REQUEST, tmp_path)
    assert read == []
    change_pixel(folders(tmp_path)[0])
    with pytest.raises(UsageError, match=r"000004.png: got other bytes than were written"):
        obtain(REQUEST, tmp_path)
    assert len(read) == 6
