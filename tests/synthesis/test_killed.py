"""A drawing that is killed at any moment goes on to the same files, and its memory does not grow with their number."""

import contextlib
import hashlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np

from cachefl_jax.synthesis import Drawing, generator, obtain, request_of

# The images are noise from their seeds: what is killed here is the store, in a process that needs no torch.
CODE = """
import contextlib, pathlib, sys, time
import numpy as np
from cachefl_jax.synthesis import Drawing, cost, generator, obtain, request_of, store

@contextlib.contextmanager
def noise(*_):
    def draw(prompts, seeds):
        time.sleep(0.02)
        images = [np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8) for seed in seeds]
        return np.stack(images), np.zeros(len(seeds), bool)
    yield draw

generator.drawing = noise
cost.device_energy, store.device = lambda: None, lambda: "none"
obtain(request_of("pocket", ("two", "seven"), ("the digit {}.",), 50, Drawing(2, 1.5, batch_size=8), 0),
       pathlib.Path(sys.argv[1]))
"""


def started(root: pathlib.Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CODE, str(root)], stderr=subprocess.PIPE, text=True)


def files_of(root: pathlib.Path) -> tuple[dict[str, str], int]:
    """(the digests of all files of the only set but its manifest's, and those that this tells; images timed)."""
    (folder,) = (path for path in (root / "synthetic").iterdir() if path.is_dir())
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    manifest = json.loads((folder / "manifest.json").read_text())
    return found | {name: manifest[name] for name in ("digest", "images_sha256", "files_sha256")}, manifest["timed"]


def images_in(root: pathlib.Path) -> int:
    return len(list(root.rglob("*.png")))


def test_killed_three_times_at_random_it_ends_in_the_same_files(tmp_path):
    whole, killed, chance = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    process = started(whole)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 0
    expected, timed = files_of(whole)
    assert (len(expected), timed) == (100 + 1 + 3, 100)
    for stop in (10, 40, 75):
        process = started(killed)
        while images_in(killed) < stop and process.poll() is None:
            time.sleep(chance.uniform(0.0005, 0.002))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert stop <= images_in(killed) < 100
    process = started(killed)
    assert "going on at image" in process.communicate(timeout=120)[1]
    assert process.returncode == 0
    found, timed = files_of(killed)
    assert found == expected
    assert 100 - 3 * 8 <= timed <= 100  # a batch may be whole before its seconds are written


def drawn_with(monkeypatch, root: pathlib.Path, count: int) -> int:
    """The most bytes of memory that drawing and reading `count` images takes; one has 48 KiB."""

    @contextlib.contextmanager
    def noise(*_):
        def draw(prompts, seeds):
            images = [np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8) for seed in seeds]
            return np.stack(images), np.zeros(len(seeds), bool)

        yield draw

    monkeypatch.setattr(generator, "drawing", noise)
    asked = request_of("pocket", ("two",), ("the digit {}.",), count, Drawing(2, 1.5, batch_size=8), 0)
    tracemalloc.start()
    try:
        made = obtain(asked, root)
        assert sum(image.size == (128, 128) for image in made.images) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch, tmp_path):
    drawn_with(monkeypatch, tmp_path / "imports", 8)
    few, many = (drawn_with(monkeypatch, tmp_path / str(count), count) for count in (16, 160))
    assert many - few < 16 * 128 * 128 * 3  # of the 144 images more, two batches at most
    assert few > 8 * 128 * 128 * 3  # a batch is in memory
