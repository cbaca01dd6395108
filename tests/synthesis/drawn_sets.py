"""Requests of sets, and what of them lies in a store."""

import json
import pathlib

import numpy as np

from cachefl_jax.synthesis import Drawing, SyntheticSet, request_of

REQUEST = request_of("pocket", ("two", "seven"), ("the digit {}.", "{}"), 3, Drawing(2, 1.5), seed=0)
LARGE = request_of("pocket", ("two", "seven"), ("the digit {}.",), 30, Drawing(2, 1.5), seed=0)  # four batches


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def arrays(made: SyntheticSet) -> np.ndarray:
    """Its images, [n, H, W, 3] uint8."""
    return np.stack([np.asarray(image) for image in made.images])


def folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in (root / "synthetic").iterdir() if path.is_dir())


def line_of(folder: pathlib.Path, row: int) -> dict:
    return json.loads((folder / "files.jsonl").read_text().splitlines()[row])


def whole_of(root: pathlib.Path) -> dict[str, bytes]:
    """The bytes of all files of the only set but its manifest, and of that what does not tell the time."""
    (folder,) = folders(root)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    for name in ("seconds", "date"):
        del manifest[name]
    assert set(files) == {"files.jsonl", *(line_of(folder, row)["name"] for row in range(manifest["timed"]))}
    return files | {"manifest.json": json.dumps(manifest).encode()}
