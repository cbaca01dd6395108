"""The store: drawn once, read afterwards, checked on every reading, whole or not there."""

import json
import pathlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import generator, obtain, request_of
from cachefl_jax.synthesis.store import weights_digest

REQUEST = request_of("pocket", ("two", "seven"), ("the digit {}.", "{}"), 3, steps=2, guidance=1.5, seed=0)


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """The prompts of every drawing; the drawing itself is replaced by noise from the seeds."""
    made = []

    def fake(pipeline, prompts, seeds, steps, guidance):
        made.append(list(prompts))
        return np.stack([np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed in seeds])

    monkeypatch.setattr(generator, "generate", fake)
    return made


def folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted((root / "synthetic").iterdir())


def test_the_real_pipeline_fills_the_store(tmp_path):
    made = obtain(REQUEST, tmp_path)
    assert made.images.shape == (6, 32, 32, 3)
    assert made.images.dtype == np.uint8
    prompts, seeds = (sum(rows, ()) for rows in (REQUEST.prompts, REQUEST.seeds))
    np.testing.assert_array_equal(made.images, generator.generate("pocket", prompts, seeds, 2, 1.5))


def test_the_second_run_reads_what_the_first_drew(calls, tmp_path):
    first, second = obtain(REQUEST, tmp_path), obtain(REQUEST, tmp_path)
    assert calls == [["the digit two.", "two", "the digit two.", "the digit seven.", "seven", "the digit seven."]]
    np.testing.assert_array_equal(first.images, second.images)
    assert first.labels.dtype == np.int32
    assert second.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert first.manifest == second.manifest


@pytest.mark.parametrize(
    "field",
    [
        {"steps": 3},
        {"guidance": 2.0},
        {"class_names": ("2", "7")},
        {"prompts": (("a", "b", "c"),) * 2},
        {"seeds": ((1, 2, 3),) * 2},
    ],
)
def test_another_request_is_drawn_anew(calls, tmp_path, field):
    obtain(REQUEST, tmp_path)
    obtain(REQUEST._replace(**field), tmp_path)
    assert len(calls) == 2
    assert len(folders(tmp_path)) == 2


def test_the_weights_name_the_pipeline_not_its_place(calls, tmp_path):
    copy = shutil.copytree(generator.POCKET, tmp_path / "copy")
    obtain(REQUEST, tmp_path)
    obtain(REQUEST._replace(pipeline=str(copy)), tmp_path)
    assert len(calls) == 1


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"])
def test_other_weights_or_settings_are_another_pipeline(tmp_path, part):
    copy = pathlib.Path(shutil.copytree(generator.POCKET, tmp_path / "copy"))
    (copy / "readme.txt").write_text("no part of the pipeline")
    assert weights_digest(copy) == weights_digest(generator.POCKET)
    changed = bytearray((copy / part).read_bytes())
    changed[-3] ^= 1
    (copy / part).write_bytes(changed)
    assert weights_digest(copy) != weights_digest(generator.POCKET)


def test_the_manifest_tells_where_the_images_come_from(calls, tmp_path):
    made = obtain(REQUEST, tmp_path)
    manifest = json.loads((folders(tmp_path)[0] / "manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["pipeline"] == "pocket"
    assert manifest["class_names"] == ["two", "seven"]
    assert manifest["weights_sha256"] == weights_digest(generator.POCKET)
    assert manifest["prompts"][1] == ["the digit seven.", "seven", "the digit seven."]
    assert manifest["seeds"] == [list(row) for row in REQUEST.seeds]
    assert (manifest["steps"], manifest["guidance"], manifest["image_size"]) == (2, 1.5, [8, 8])
    assert set(manifest["versions"]) >= {"torch", "diffusers", "transformers", "python"}
    assert len(manifest["images_sha256"]) == 64
    assert manifest["seconds"] >= 0


def change_images(folder: pathlib.Path) -> None:
    with np.load(folder / "images.npz") as arrays:
        images, labels = arrays["images"].copy(), arrays["labels"]
    images[0, 0, 0, 0] ^= 1
    np.savez_compressed(folder / "images.npz", images=images, labels=labels)


def swap_labels(folder: pathlib.Path) -> None:
    with np.load(folder / "images.npz") as arrays:
        np.savez_compressed(folder / "images.npz", images=arrays["images"], labels=arrays["labels"][::-1])


def cut(name: str):
    def act(folder: pathlib.Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:200])

    return act


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def pickle_images(folder: pathlib.Path) -> None:
    np.savez(folder / "images.npz", images=np.array([object()]), labels=np.zeros(1, np.int32))


def plain_array(folder: pathlib.Path) -> None:
    with (folder / "images.npz").open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (change_images, "images.npz"),
        (swap_labels, "images.npz"),
        (cut("images.npz"), "images.npz"),
        (remove("images.npz"), "images.npz"),
        (pickle_images, "images.npz"),
        (plain_array, "images.npz"),
        (cut("manifest.json"), "manifest.json"),
        (remove("manifest.json"), "manifest.json"),
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
    shutil.rmtree(folder)
    obtain(REQUEST, tmp_path)
    assert len(calls) == 2


def test_two_runs_at_once_end_with_one_set(monkeypatch, tmp_path):
    """Both find nothing and draw; the slower one takes what the faster one left."""
    both_draw, numbers = threading.Barrier(2, timeout=30), iter((10, 200))

    def fake(pipeline, prompts, seeds, steps, guidance):
        both_draw.wait()
        return np.full((len(prompts), 8, 8, 3), next(numbers), np.uint8)

    monkeypatch.setattr(generator, "generate", fake)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: obtain(REQUEST, tmp_path), range(2))
    np.testing.assert_array_equal(first.images, second.images)
    assert len(folders(tmp_path)) == 1


def test_a_drawing_that_fails_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "generate", fail)
    with pytest.raises(KeyboardInterrupt):
        obtain(REQUEST, tmp_path)
    assert folders(tmp_path) == []


def test_the_place_comes_from_the_environment(calls, monkeypatch, tmp_path):
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    obtain(REQUEST)
    assert len(folders(tmp_path / "home")) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_drawn(calls, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="CACHEFL_HOME"):
        obtain(REQUEST, tmp_path / "file")
    assert calls == []
