"""The store: drawn once and read afterwards, each image a file that says what it was drawn from."""

import contextlib
import datetime
import hashlib
import json
import pathlib
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from synthesis.drawn_sets import REQUEST, arrays, folders, line_of, noise

from cachefl_jax.data.images import LabelledImages, fingerprint_of
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, generator, obtain, pipeline
from cachefl_jax.synthesis.origins import origins
from cachefl_jax.synthesis.picture_files import facts_in
from cachefl_jax.synthesis.pipeline import weights_digest


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


def test_what_older_versions_left_goes_when_the_set_is_drawn(calls, tmp_path):
    obtain(REQUEST, tmp_path)
    (folder,) = folders(tmp_path)
    left = folder.with_name(f".{folder.name}.{'0' * 32}")
    folder.rename(left)
    obtain(REQUEST, tmp_path)
    assert folders(tmp_path) == [folder]


def test_the_place_comes_from_the_environment(calls, monkeypatch, tmp_path):
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "home"))
    obtain(REQUEST)
    assert len(folders(tmp_path / "home")) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_drawn(calls, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="CACHEFL_HOME"):
        obtain(REQUEST, tmp_path / "file")
    assert calls == []
