"""A drawn set against its hashes, and against what its pipeline draws now."""

import contextlib
import json

import numpy as np
import pytest

from cachefl_jax.data.images import fingerprint_of
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest
from cachefl_jax.synthesis import Drawing, generator, obtain, request_of
from cachefl_jax.synthesis import verify as verification
from cachefl_jax.synthesis.picture_files import encode_picture, facts_in
from cachefl_jax.synthesis.verify import verify

REQUEST = request_of("pocket", ("two", "seven"), ("the digit {}.",), 20, Drawing(2, 1.5), seed=0)  # 16, 16, 8


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """(what is added to every pixel) -> the set's folder, drawn as noise from the seeds; and the batches' sizes."""
    state = {"more": 0, "batches": []}

    @contextlib.contextmanager
    def fake(pipeline, prompts, how):
        def draw(some, seeds):
            state["batches"].append(len(some))
            images = [np.random.default_rng(seed).integers(0, 200, (8, 8, 3), np.uint8) for seed in seeds]
            images[0] = images[0] + np.uint8(state["more"])
            return np.stack(images), np.zeros(len(seeds), bool)

        yield draw

    for module in (generator, verification):
        monkeypatch.setattr(module, "drawing", fake)
    obtain(REQUEST, tmp_path)
    (folder,) = (tmp_path / "synthetic").iterdir()
    state["batches"].clear()
    return folder, state


def test_a_sound_set_has_no_faults_and_nothing_is_drawn(drawn):
    folder, state = drawn
    assert verify(folder) == verification.Report(40, [])
    assert state["batches"] == []


@pytest.mark.parametrize(
    ("asked", "batches"), [(1, [16]), (16, [16]), (17, [16, 8]), (33, [16, 16, 8]), (999, [16, 16, 8])]
)
def test_images_are_drawn_again_in_their_own_batches_spread_over_the_set(drawn, asked, batches):
    folder, state = drawn
    report = verify(folder, asked)
    assert state["batches"] == batches
    assert report == verification.Report(40, [], sum(batches), sum(batches))


def test_what_is_drawn_otherwise_now_is_one_line(drawn):
    folder, state = drawn
    state["more"] = 7
    report = verify(folder, 17)
    assert (report.drawn, report.equal, report.largest, report.elsewhere) == (24, 22, 7, ())
    assert report.faults == ["2 of 24 images differ from what is drawn now, by up to 7 of 255"]


def test_what_was_drawn_with_other_packages_says_so(drawn, monkeypatch):
    folder, state = drawn
    state["more"] = 1
    monkeypatch.setattr(verification, "device", lambda: "another device")
    (fault,) = verify(folder, 1).faults
    assert fault.startswith("1 of 16 images differ from what is drawn now, by up to 1 of 255; the set was drawn with ")
    assert "device " in fault
    assert "torch" not in fault


def test_a_file_that_lies_consistently_is_found_by_drawing(drawn):
    """Other pixels, whose hashes fit everywhere: the pipeline alone knows better."""
    folder, _ = drawn
    lines = [json.loads(line) for line in (folder / "files.jsonl").read_text().splitlines()]
    path, pixels = folder / lines[3]["name"], np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 255
    path.write_bytes(encode_picture(pixels, facts_in(str(path)), "png"))
    lines[3] |= {"sha256": file_digest(path), "pixels_sha256": fingerprint_of(pixels)}
    (folder / "files.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files_sha256"] = file_digest(folder / "files.jsonl")
    manifest["images_sha256"] = fingerprint_of(*(line["pixels_sha256"] for line in lines))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert verify(folder).faults == []
    report = verify(folder, 1)
    assert (report.equal, report.largest > 100, len(report.faults)) == (15, True, 1)


def test_every_fault_is_a_line(drawn):
    folder, _ = drawn
    files = sorted((folder / "images" / "0001").iterdir())
    files[0].write_bytes(b"no image")
    files[1].unlink()
    (folder / "images" / "0001" / "stranger.png").write_bytes(b"")
    assert verify(folder).faults == [
        "images/0001/000020.png has other bytes than were written",
        "images/0001/000021.png cannot be read (FileNotFoundError)",
        "images/0001/stranger.png in the folder, of which files.jsonl tells nothing",
    ]


def test_other_weights_are_refused_before_anything_is_drawn(drawn, monkeypatch):
    folder, state = drawn
    monkeypatch.setattr(verification, "weights_digest", lambda _: "f" * 64)
    with pytest.raises(UsageError, match=r"synthesis.pipeline: got pocket \(other weights\)"):
        verify(folder, 1)
    assert state["batches"] == []
