"""The store: drawn once, read afterwards, checked on every reading, whole or not there."""

import contextlib
import datetime
import errno
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from cachefl_jax.data import file_bytes
from cachefl_jax.data.images import LabelledImages, fingerprint_of, read_image
from cachefl_jax.errors import UsageError
from cachefl_jax.storage import files, home
from cachefl_jax.storage.leftovers import HOST
from cachefl_jax.synthesis import Drawing, SyntheticSet, cost, generator, obtain, pipeline, request_of, store
from cachefl_jax.synthesis.origins import origins
from cachefl_jax.synthesis.picture_files import encode_picture, facts_in
from cachefl_jax.synthesis.pipeline import weights_digest
from cachefl_jax.synthesis.verify import verify

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


def arrays(made: SyntheticSet) -> np.ndarray:
    """Its images, [n, H, W, 3] uint8."""
    return np.stack([np.asarray(image) for image in made.images])


def folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in (root / "synthetic").iterdir() if path.is_dir())


def test_the_real_pipeline_fills_the_store(tmp_path):
    made = obtain(REQUEST, tmp_path)
    assert arrays(made).shape == (6, 32, 32, 3)
    prompts, seeds = (sum(rows, ()) for rows in (REQUEST.prompts, REQUEST.seeds))
    np.testing.assert_array_equal(arrays(made), generator.generate("pocket", prompts, seeds, Drawing(2, 1.5)))


def test_the_second_run_reads_what_the_first_drew(calls, tmp_path):
    first, second = obtain(REQUEST, tmp_path), obtain(REQUEST, tmp_path)
    assert calls == [["the digit two.", "two", "the digit two.", "the digit seven.", "seven", "the digit seven."]]
    np.testing.assert_array_equal(arrays(first), arrays(second))
    assert first.labels.dtype == np.int32
    assert second.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert first.manifest == second.manifest


@pytest.mark.parametrize(
    "field",
    [
        {"how": Drawing(3, 1.5)},
        {"how": Drawing(2, 2.0)},
        {"how": Drawing(2, 1.5, height=40)},
        {"how": Drawing(2, 1.5, width=40)},
        {"how": Drawing(2, 1.5, dtype="bfloat16")},
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


def test_batches_and_the_kind_of_file_change_an_image_by_rounding_alone_and_draw_nothing_anew(calls, tmp_path):
    first = obtain(REQUEST, tmp_path)
    second = obtain(REQUEST._replace(how=Drawing(2, 1.5, batch_size=2, file_format="webp")), tmp_path)
    assert len(calls) == 1
    assert first.manifest == second.manifest
    assert second.images.name(5).endswith("images/0001/000005.png")


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
    assert (manifest["redrawn"], manifest["redrawn_seeds"], manifest["timed"]) == (0, {}, 6)
    assert (manifest["scheduler"], manifest["dtype"], manifest["energy_joules"]) == ("DDIMScheduler", "float32", None)
    assert datetime.datetime.fromisoformat(manifest["date"]).tzinfo is not None


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_every_image_is_a_file_that_says_what_it_was_drawn_from(calls, tmp_path, file_format):
    asked = REQUEST._replace(how=Drawing(2, 1.5, file_format=file_format))
    made = obtain(asked, tmp_path)
    lines = [line_of(folders(tmp_path)[0], row) for row in range(6)]
    for row, (label, seed) in enumerate(zip(made.labels.tolist(), sum(REQUEST.seeds, ()), strict=True)):
        file, prompt = pathlib.Path(made.images.name(row)), sum(REQUEST.prompts, ())[row]
        assert file == folders(tmp_path)[0] / "images" / f"{label:04d}" / f"{row:06d}.{file_format}"
        assert facts_in(str(file)) == {
            "prompt": prompt, "seed": seed, "class": ("two", "seven")[label], "model": "pocket", "steps": 2,
            "guidance": 1.5, "dtype": "float32", "scheduler": "DDIMScheduler",
            "weights_sha256": weights_digest(pipeline.POCKET),
        }  # fmt: skip
        np.testing.assert_array_equal(np.asarray(made.images[row]), noise(seed))
        assert lines[row] == {
            "name": file.relative_to(folders(tmp_path)[0]).as_posix(),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "pixels_sha256": fingerprint_of(noise(seed)), "seed": seed, "prompt": prompt,
        }  # fmt: skip
    assert made.images.files
    known = LabelledImages(made.images, made.labels, made.manifest["images_sha256"])
    assert [origin.pixels for origin in origins(known)] == [line["pixels_sha256"] for line in lines]


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


def line_of(folder: pathlib.Path, row: int) -> dict:
    return json.loads((folder / "files.jsonl").read_text().splitlines()[row])


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


LARGE = request_of("pocket", ("two", "seven"), ("the digit {}.",), 30, Drawing(2, 1.5), seed=0)  # four batches


def whole_of(root: pathlib.Path) -> dict[str, bytes]:
    """The bytes of all files of the only set but its manifest, and of that what does not tell the time."""
    (folder,) = folders(root)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    for name in ("seconds", "date"):
        del manifest[name]
    assert set(files) == {"files.jsonl", *(line_of(folder, row)["name"] for row in range(manifest["timed"]))}
    return files | {"manifest.json": json.dumps(manifest).encode()}


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


def cut_picture(aside: pathlib.Path) -> None:
    path = aside / line_of(aside, 20)["name"]
    path.write_bytes(path.read_bytes()[:-40])


def cut_line(aside: pathlib.Path) -> None:
    text = (aside / "files.jsonl").read_bytes()
    (aside / "files.jsonl").write_bytes(text[: text.index(b"000040.png")])


def half_a_picture(aside: pathlib.Path) -> None:
    (aside / "images" / "0001" / f".000048.png.{HOST}.{2**22 + 1}.0123abcd.tmp").write_bytes(b"half")


def other_versions(aside: pathlib.Path) -> None:
    manifest = json.loads((aside / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (aside / "manifest.json").write_text(json.dumps(manifest))


def other_batches(aside: pathlib.Path) -> None:
    manifest = json.loads((aside / "manifest.json").read_text())
    (aside / "manifest.json").write_text(json.dumps(manifest | {"batch_size": 4}))


def empty_manifest(aside: pathlib.Path) -> None:
    (aside / "manifest.json").write_bytes(b"")


def no_cost(aside: pathlib.Path) -> None:
    (aside / "cost.json").write_bytes(b"[]")


@pytest.mark.parametrize(
    ("harm", "again"),
    [
        (cut_picture, 3),
        (cut_line, 2),
        (half_a_picture, 1),
        (other_versions, 4),
        (other_batches, 4),
        (empty_manifest, 4),
    ],
)
def test_of_what_was_left_only_what_is_sound_and_alike_is_kept(stop, calls, tmp_path, harm, again):
    stop(-1)
    obtain(LARGE, tmp_path / "whole")
    calls.clear()
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path / "stopped")
    (aside,) = folders(tmp_path / "stopped")
    harm(aside)
    calls.clear()
    stop(-1)
    obtain(LARGE, tmp_path / "stopped")
    assert len(calls) == again
    assert whole_of(tmp_path / "stopped") == whole_of(tmp_path / "whole")


def test_seconds_of_a_process_that_was_stopped_count(stop, calls, tmp_path, monkeypatch):
    clock = itertools.count()  # every look at the clock takes a second: a start, and one a batch
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(clock))
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path)
    stop(-1)
    manifest = obtain(LARGE, tmp_path).manifest
    assert (manifest["seconds"], manifest["timed"]) == (3 + 1, 60)


def test_where_nobody_knows_what_a_process_spent_its_images_are_not_counted(stop, calls, tmp_path):
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path)
    no_cost(folders(tmp_path)[0])
    stop(-1)
    assert obtain(LARGE, tmp_path).manifest["timed"] == 12


@pytest.mark.parametrize("moment", ["before the manifest", "after the manifest", "after the cost"])
def test_a_process_killed_when_all_is_drawn_leaves_nothing_to_draw(calls, tmp_path, monkeypatch, moment):
    obtain(REQUEST, tmp_path / "whole")
    with monkeypatch.context() as patch:
        target, name = {
            "before the manifest": (store, "finish"),
            "after the manifest": (pathlib.Path, "unlink"),
            "after the cost": (home.os, "replace"),
        }[moment]
        real = getattr(target, name)

        def killed(*arguments, **options):
            if name == "finish" or arguments[0].name in ("cost.json", folders(tmp_path / "killed")[0].name):
                raise KeyboardInterrupt
            return real(*arguments, **options)

        patch.setattr(target, name, killed)
        with pytest.raises(KeyboardInterrupt):
            obtain(REQUEST, tmp_path / "killed")
    calls.clear()
    obtain(REQUEST, tmp_path / "killed")
    assert calls == []
    assert whole_of(tmp_path / "killed") == whole_of(tmp_path / "whole")


@pytest.mark.parametrize("room", [0, 1, 20, 40, 61])
def test_a_full_disk_is_one_line_and_the_drawing_goes_on_once_there_is_room(calls, tmp_path, monkeypatch, room):
    """`room`: files that still fit."""
    obtain(LARGE, tmp_path / "whole")
    calls.clear()
    real, written = files.os.fsync, []

    def fsync(handle):
        written.append(handle)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(UsageError, match=r"^CACHEFL_HOME: got .*No space left on device.*; mend: make room"):
            obtain(LARGE, tmp_path / "full")
    obtain(LARGE, tmp_path / "full")
    assert len(calls) <= 4 + 1  # the batch in hand
    assert whole_of(tmp_path / "full") == whole_of(tmp_path / "whole")


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
        np.testing.assert_array_equal(arrays(first.result(60)), arrays(second.result(60)))
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
        np.testing.assert_array_equal(np.asarray(made.images[row]), noise(seed))
        assert facts_in(made.images.name(row))["seed"] == seed
    obtain(LARGE, tmp_path / "second")
    assert whole_of(tmp_path / "first") == whole_of(tmp_path / "second")


def test_a_class_that_is_always_refused_is_named(objecting, tmp_path):
    sevens = {seed + more for seed in LARGE.seeds[1] for more in range(20)}
    objecting(sevens.__contains__)
    with pytest.raises(
        UsageError, match='synthesis.prompts: got no image, from 9 seeds, of "the digit seven."; allowed'
    ):
        obtain(LARGE, tmp_path)


def test_the_place_comes_from_the_environment(calls, monkeypatch, tmp_path):
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    obtain(REQUEST)
    assert len(folders(tmp_path / "home")) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_drawn(calls, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="CACHEFL_HOME"):
        obtain(REQUEST, tmp_path / "file")
    assert calls == []
