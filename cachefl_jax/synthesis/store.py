"""The synthetic set is drawn once, kept with its provenance, and read by every later run that asks for the same.

Axis letters: N classes, K images a class, n images, H W image.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from cachefl_jax.errors import UsageError
from cachefl_jax.files import home
from cachefl_jax.synthesis import generator
from cachefl_jax.synthesis.prompts import class_prompts, image_seeds

IMAGES, MANIFEST = "images.npz", "manifest.json"
WEIGHT_FILES = (".safetensors", ".json", ".txt", ".model")


class Request(NamedTuple):
    """What is to be drawn; equal requests of equal weights name the same set."""

    pipeline: str
    class_names: tuple[str, ...]  # [N]
    prompts: tuple[tuple[str, ...], ...]  # [N][K]
    seeds: tuple[tuple[int, ...], ...]  # [N][K]
    steps: int
    guidance: float


class SyntheticSet(NamedTuple):
    """What was drawn."""

    images: np.ndarray  # [n, H, W, 3] uint8, class by class
    labels: np.ndarray  # [n] int32, an index into the request's class_names
    manifest: dict


def request_of(
    pipeline: str,
    class_names: Sequence[str],
    templates: Sequence[str],
    images_per_class: int,
    steps: int,
    guidance: float,
    seed: int,
) -> Request:
    """The request that a config's synthesis fields and seed stand for.

    Raises:
        UsageError: as `class_prompts`.
    """
    prompts = class_prompts(class_names, templates, images_per_class)
    seeds = image_seeds(class_names, images_per_class, seed)
    return Request(pipeline, tuple(class_names), prompts, seeds, int(steps), float(guidance))


def obtain(request: Request, root: pathlib.Path | None = None) -> SyntheticSet:
    """The requested set: read where it was drawn before, drawn and kept where not.

    Args:
        request: what to draw.
        root: the folder whose ``synthetic/`` holds the sets; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises:
        UsageError: the pipeline cannot be had, the folder cannot be written, or what is stored is damaged.
    """
    weights = weights_digest(generator.find_pipeline(request.pipeline))
    digest = request_digest(request, weights)
    folder = (root or home()) / "synthetic" / digest[:16]
    if not folder.is_dir():
        with written_aside(folder) as aside:
            draw(request, weights, digest, aside)
    return read(folder, digest)


def draw(request: Request, weights: str, digest: str, folder: pathlib.Path) -> None:
    """Draws the set and writes ``images.npz`` and ``manifest.json`` into the folder."""
    prompts = [prompt for row in request.prompts for prompt in row]
    seeds = [seed for row in request.seeds for seed in row]
    started = time.monotonic()
    images = generator.generate(request.pipeline, prompts, seeds, request.steps, request.guidance)
    seconds = time.monotonic() - started
    labels = np.repeat(np.arange(len(request.prompts), dtype=np.int32), [len(row) for row in request.prompts])
    packages = ("torch", "diffusers", "transformers", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    manifest = {
        "digest": digest,
        **request._asdict(),
        "weights_sha256": weights,
        "image_size": list(images.shape[1:3]),
        "images_sha256": array_digest(images),
        "labels_sha256": array_digest(labels),
        "versions": {**versions, "python": platform.python_version()},
        "seconds": round(seconds, 2),
    }
    np.savez_compressed(folder / IMAGES, images=images, labels=labels)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def read(folder: pathlib.Path, digest: str) -> SyntheticSet:
    """Reads a stored set and checks it against its manifest; `digest` is the one that the request has now."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected = [manifest[name] for name in ("digest", "images_sha256", "labels_sha256")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder / MANIFEST, f"{type(error).__name__}: {error}", "a whole manifest") from error
    try:
        # Opened here, not by numpy, which would leave a broken archive open.
        with (folder / IMAGES).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(folder / IMAGES, f"{type(error).__name__}: {error}", "a whole file") from error
    if [digest, array_digest(images), array_digest(labels)] != expected:
        raise damaged(folder / IMAGES, "other content than was drawn", f"the sha256 in {MANIFEST}")
    return SyntheticSet(images, labels, manifest)


def damaged(path: pathlib.Path, found: str, allowed: str) -> UsageError:
    return UsageError(str(path), found, allowed, f"delete {path.parent} and it is drawn again")


@contextlib.contextmanager
def written_aside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new sibling folder and renames it to `folder` at the end; a faster run's folder stays."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        wanted, mend = "a folder that can be written", "set CACHEFL_HOME to one"
        raise UsageError("CACHEFL_HOME", f"{aside.parent} ({error.strerror})", wanted, mend) from error
    try:
        yield aside
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def request_digest(request: Request, weights: str) -> str:
    """Names a set by what determines its images: the weights stand for the pipeline, wherever it lies."""
    fields = {**request._asdict(), "pipeline": weights}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def array_digest(array: np.ndarray) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def weights_digest(directory: pathlib.Path) -> str:
    """The sha256 of all that a pipeline is made of: its index, and its components' weights and settings.

    Other files beside them (a readme, single-file copies of the weights) do not count.
    """
    index = directory / "model_index.json"
    parts = [path for path in directory.glob("*/**/*") if path.suffix in WEIGHT_FILES and path.is_file()]
    digest = hashlib.sha256()
    # The bar waits two seconds: a pocket's weights need no bar, a large model's do.
    for path in tqdm([index, *sorted(parts)], desc="hashing weights", leave=False, disable=None, delay=2):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\n")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
