"""The store: drawn once, read afterwards, checked on every reading, whole or not there."""

import contextlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, generator, obtain, pipeline, request_of, store
from cachefl_jax.synthesis.pipeline import weights_digest

REQUEST = request_of("pocket", ("two", "seven"), ("the digit {}.", "{}"), 3, Drawing(2, 1.5), seed=0)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """The prompts of every batch that was drawn; the drawing itself is replaced by noise from the seeds."""
    made = []

    @contextlib.contextmanager
    def fake(pipeline, prompts, how):
        def draw(some, seeds):
            made.append(list(some))
            return np.stack([noise(seed) for seed in seeds]), np.zeros(len(seeds), bool)

        yield draw

    monkeypatch.setattr(generator, "drawing", fake)
    return made


def folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in (root / "synthetic").iterdir() if path.is_dir())


def test_the_real_pipeline_fills_the_store(tmp_path):
    made = obtain(REQUEST, tmp_path)
    assert made.images.shape == (6, 32, 32, 3)
    assert made.images.dtype == np.uint8
    prompts, seeds = (sum(rows, ()) for rows in (REQUEST.prompts, REQUEST.seeds))
    np.testing.assert_array_equal(made.images, generator.generate("pocket", prompts, seeds, Drawing(2, 1.5)))


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
    copy = shutil.copytree(pipeline.POCKET, tmp_path / "copy")
    obtain(REQUEST, tmp_path)
    obtain(REQUEST._replace(pipeline=str(copy)), tmp_path)
    assert len(calls) == 1


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"])
def test_other_weights_or_settings_are_another_pipeline(tmp_path, part):
    copy = pathlib.Path(shutil.copytree(pipeline.POCKET, tmp_path / "copy"))
    (copy / "readme.txt").write_text("no part of the pipeline")
    assert weights_digest(copy) == weights_digest(pipeline.POCKET)
    changed = bytearray((copy / part).read_bytes())
    changed[-3] ^= 1
    (copy / part).write_bytes(changed)
    assert weights_digest(copy) != weights_digest(pipeline.POCKET)


def test_the_manifest_tells_where_the_images_come_from(calls, tmp_path):
    made = obtain(REQUEST, tmp_path)
    manifest = json.loads((folders(tmp_path)[0] / "manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["pipeline"] == "pocket"
    assert manifest["class_names"] == ["two", "seven"]
    assert manifest["weights_sha256"] == weights_digest(pipeline.POCKET)
    assert manifest["prompts"][1] == ["the digit seven.", "seven", "the digit seven."]
    assert manifest["seeds"] == [list(row) for row in REQUEST.seeds]
    assert (manifest["steps"], manifest["guidance"], manifest["image_size"]) == (2, 1.5, [8, 8])
    assert set(manifest["versions"]) >= {"torch", "diffusers", "transformers", "python"}
    assert len(manifest["images_sha256"]) == 64
    assert manifest["seconds"] >= 0
    assert (manifest["redrawn"], manifest["redrawn_seeds"]) == (0, {})


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


def encrypt_images(folder: pathlib.Path) -> None:
    """Says of the first array that it is encrypted, as a flipped bit may."""
    content = bytearray((folder / "images.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (folder / "images.npz").write_bytes(content)


def forget_labels(folder: pathlib.Path) -> None:
    np.savez(folder / "images.npz", images=np.zeros((1, 8, 8, 3), np.uint8))


def nest(folder: pathlib.Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (encrypt_images, "images.npz"),
        (forget_labels, "images.npz"),
        (nest, "manifest.json"),
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


LARGE = request_of("pocket", ("two", "seven"), ("the digit {}.",), 30, Drawing(2, 1.5), seed=0)  # four batches


def whole_of(root: pathlib.Path) -> bytes:
    (folder,) = folders(root)
    assert sorted(path.name for path in folder.iterdir()) == ["images.npz", "manifest.json"]
    return (folder / "images.npz").read_bytes()


@pytest.fixture
def stop(monkeypatch, calls):
    """(count) -> nothing; a drawing is stopped before batch `count`."""
    drawing = generator.drawing

    def at(count: int) -> None:
        @contextlib.contextmanager
        def fake(*arguments):
            with drawing(*arguments) as draw:

                def stopping(some, seeds):
                    if len(calls) == count:
                        raise KeyboardInterrupt
                    return draw(some, seeds)

                yield stopping

        monkeypatch.setattr(generator, "drawing", fake)

    return at


@pytest.mark.parametrize("count", [1, 3])
def test_a_drawing_that_was_stopped_goes_on_and_ends_in_the_same_bytes(stop, calls, tmp_path, capfd, count):
    stop(-1)
    obtain(LARGE, tmp_path / "whole")
    assert [len(call) for call in calls] == [16, 16, 16, 12]
    calls.clear()
    stop(count)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path / "stopped")
    stop(-1)
    obtain(LARGE, tmp_path / "stopped")
    assert [len(call) for call in calls] == [16, 16, 16, 12]  # none twice
    assert whole_of(tmp_path / "stopped") == whole_of(tmp_path / "whole")
    assert f"going on at image {16 * count} of 60" in capfd.readouterr().err


def cut_block(aside: pathlib.Path) -> None:
    path = aside / "block-000001.npz"
    path.write_bytes(path.read_bytes()[:-40])


def other_versions(aside: pathlib.Path) -> None:
    manifest = json.loads((aside / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (aside / "manifest.json").write_text(json.dumps(manifest))


def empty_manifest(aside: pathlib.Path) -> None:
    (aside / "manifest.json").write_bytes(b"")


@pytest.mark.parametrize(("harm", "again"), [(cut_block, 3), (other_versions, 4), (empty_manifest, 4)])
def test_of_what_was_left_only_what_is_sound_and_alike_is_kept(stop, calls, tmp_path, harm, again):
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path)
    (aside,) = folders(tmp_path)
    harm(aside)
    calls.clear()
    stop(-1)
    obtain(LARGE, tmp_path)
    assert len(calls) == again
    assert whole_of(tmp_path)


def test_a_killed_process_loses_no_whole_block(tmp_path):
    """The real pipeline, killed after its first block."""
    code = "import os, signal, pathlib, sys; from cachefl_jax.synthesis import Drawing, request_of, obtain, store; "
    code += "write = store.write_block; "
    code += "store.write_block = lambda *each: (write(*each), os.kill(os.getpid(), signal.SIGKILL)); "
    code += (
        "obtain(request_of('pocket', ('two', 'seven'), ('the digit {}.',), 10, Drawing(1, 1.0), 0), "
        "pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "killed")], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL
    request = request_of("pocket", ("two", "seven"), ("the digit {}.",), 10, Drawing(1, 1.0), 0)
    (aside,) = folders(tmp_path / "killed")
    assert (aside / "block-000000.npz").is_file()
    obtain(request, tmp_path / "killed")
    obtain(request, tmp_path / "whole")
    assert whole_of(tmp_path / "killed") == whole_of(tmp_path / "whole")


def test_two_runs_at_once_draw_once(monkeypatch, calls, tmp_path, capfd):
    begun, drawing = threading.Event(), generator.drawing

    @contextlib.contextmanager
    def slow(*arguments):
        begun.set()
        time.sleep(0.5)
        with drawing(*arguments) as draw:
            yield draw

    monkeypatch.setattr(generator, "drawing", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(obtain, REQUEST, tmp_path)
        assert begun.wait(30)
        second = pool.submit(obtain, REQUEST, tmp_path)
        np.testing.assert_array_equal(first.result(60).images, second.result(60).images)
    assert len(calls) == 1
    assert len(folders(tmp_path)) == 1
    assert "another run draws these images; waiting for it" in capfd.readouterr().err


def test_a_drawing_that_fails_at_once_leaves_nothing(stop, tmp_path):
    stop(0)
    with pytest.raises(KeyboardInterrupt):
        obtain(REQUEST, tmp_path)
    assert list((tmp_path / "synthetic").iterdir()) == []


def test_what_older_versions_left_goes_when_the_set_is_drawn(calls, tmp_path):
    obtain(REQUEST, tmp_path)
    (folder,) = folders(tmp_path)
    left = folder.with_name(f".{folder.name}.{'0' * 32}")
    folder.rename(left)
    obtain(REQUEST, tmp_path)
    assert folders(tmp_path) == [folder]


@pytest.fixture
def objecting(monkeypatch):
    """(refuses) -> nothing; `refuses` says of a seed whether the pipeline's safety checker objects to its image."""

    def install(refuses) -> None:
        @contextlib.contextmanager
        def fake(pipeline, prompts, how):
            def draw(some, seeds):
                blocked = [refuses(seed) for seed in seeds]
                raw = np.stack(
                    [0 * noise(seed) if bad else noise(seed) for seed, bad in zip(seeds, blocked, strict=True)]
                )
                return generator.read_output(SimpleNamespace(images=raw / 255, nsfw_content_detected=blocked))

            yield draw

        monkeypatch.setattr(generator, "drawing", fake)

    return install


SEEDS = sum(LARGE.seeds, ())


def test_what_the_pipeline_refuses_is_drawn_again_from_the_next_seed_and_counted(objecting, tmp_path):
    objecting(lambda seed: seed in (SEEDS[3], SEEDS[20], SEEDS[20] + 1))
    made = obtain(LARGE, tmp_path / "first")
    assert made.manifest["redrawn"] == 2
    assert made.manifest["redrawn_seeds"] == {"3": SEEDS[3] + 1, "20": SEEDS[20] + 2}
    for row, seed in enumerate(SEEDS):
        seed = made.manifest["redrawn_seeds"].get(str(row), seed)
        np.testing.assert_array_equal(made.images[row], noise(seed))
    obtain(LARGE, tmp_path / "second")
    assert whole_of(tmp_path / "first") == whole_of(tmp_path / "second")


def test_a_class_that_is_always_refused_is_named(objecting, tmp_path):
    sevens = {seed + more for seed in LARGE.seeds[1] for more in range(20)}
    objecting(sevens.__contains__)
    with pytest.raises(
        UsageError, match='synthesis.prompts: got no image, from 9 seeds, of "the digit seven."; allowed'
    ):
        obtain(LARGE, tmp_path)


def test_a_set_of_older_versions_with_blackened_images_is_refused(monkeypatch, calls, tmp_path):
    obtain(REQUEST, tmp_path)
    (folder,) = folders(tmp_path)
    with np.load(folder / "images.npz") as arrays:
        images, labels = arrays["images"].copy(), arrays["labels"]
    images[4] = 0
    np.savez_compressed(folder / "images.npz", images=images, labels=labels)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["images_sha256"] = store.array_digest(images)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=f"1 images of one colour, of seven; allowed.*delete {folder}"):
        obtain(REQUEST, tmp_path)


def test_the_place_comes_from_the_environment(calls, monkeypatch, tmp_path):
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    obtain(REQUEST)
    assert len(folders(tmp_path / "home")) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_drawn(calls, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="CACHEFL_HOME"):
        obtain(REQUEST, tmp_path / "file")
    assert calls == []
