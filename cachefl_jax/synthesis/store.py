"""The synthetic set is drawn once, kept with its provenance, and read by every later run that asks for the same.

Axis letters: N classes, K images a class, n images, H W image.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.images import one_colour
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.interrupts import finishing, leave_if_asked
from cachefl_jax.machine import cores
from cachefl_jax.storage.archive import read_arrays
from cachefl_jax.storage.files import json_if_whole, write_arrays, write_json
from cachefl_jax.storage.home import MANIFEST, SYNTHETIC, home, making, writing
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.synthesis import generator
from cachefl_jax.synthesis.pipeline import find_pipeline, weights_digest
from cachefl_jax.synthesis.prompts import class_prompts, image_seeds

IMAGES = "images.npz"
BLOCK = "block-{}.npz"  # of a set that is not whole yet, so that a drawing that was killed goes on
OLDER = re.compile(r"\.[0-9a-f]{32}")


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
    how: generator.Drawing,
    seed: int,
) -> Request:
    """The request that a config's synthesis fields and seed stand for. Raises UsageError: as `class_prompts`."""
    prompts = class_prompts(class_names, templates, images_per_class)
    seeds = image_seeds(class_names, images_per_class, seed)
    return Request(pipeline, tuple(class_names), prompts, seeds, int(how.steps), float(how.guidance))


def obtain(request: Request, root: pathlib.Path | None = None) -> SyntheticSet:
    """The requested set: read where it was drawn before, drawn and kept where not.

    It is drawn block by block, so that a drawing that was killed goes on where it stopped, in one process at a time.

    `root`: the folder whose ``synthetic/`` holds the sets; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: the pipeline cannot be had, the folder cannot be written, the pipeline draws nothing for a class,
    or what is stored is damaged."""
    weights = weights_digest(find_pipeline(request.pipeline))
    digest = request_digest(request, weights)
    folder = (root or home()) / SYNTHETIC / digest[:16]
    with making(folder, "another run draws these images; waiting for it", blocks_in) as aside:
        if aside:
            remove_older(folder)
            manifest = {"digest": digest, **request._asdict(), "weights_sha256": weights, "versions": versions()}
            with writing(folder.parent):
                begin(aside, manifest)
            draw(request, manifest, aside)
    return read(folder, digest)


def begin(aside: pathlib.Path, manifest: dict) -> None:
    """Makes the folder ready for a set to be drawn into. Blocks of other versions of the packages are drawn again."""
    started = json.loads(json.dumps(manifest))  # as it is read back
    if json_if_whole(aside / MANIFEST) != started:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        write_json(aside / MANIFEST, manifest)
    remove_leftovers(aside)


def draw(request: Request, manifest: dict, folder: pathlib.Path) -> None:
    """Draws what is missing and writes ``images.npz`` and the whole ``manifest.json`` into the folder."""
    prompts = [prompt for row in request.prompts for prompt in row]
    seeds = [seed for row in request.seeds for seed in row]
    started = time.monotonic()
    done = read_blocks(folder, len(prompts))
    start = sum(len(block.images) for block in done)
    if done:
        print(f"drawing images: going on at image {start} of {len(prompts)}", file=sys.stderr, flush=True)
    if start < len(prompts):
        how = generator.Drawing(request.steps, request.guidance)
        coming = generator.draw_blocks(request.pipeline, prompts, seeds, how, start)
        with finishing(), contextlib.closing(coming):
            for block in coming:
                done.append(block)
                write_block(folder, len(done) - 1, block)
                leave_if_asked()
    images = np.concatenate([block.images for block in done])
    used = [seed for block in done for seed in block.seeds]
    redrawn = {str(row): seed for row, seed in enumerate(used) if seed != seeds[row]}
    labels = np.repeat(np.arange(len(request.prompts), dtype=np.int32), [len(row) for row in request.prompts])
    told = {
        "image_size": list(images.shape[1:3]),
        "images_sha256": array_digest(images),
        "labels_sha256": array_digest(labels),
        "redrawn": len(redrawn),  # images that the pipeline refused at first
        "redrawn_seeds": redrawn,  # of these, by the number of the image
        "seconds": round(time.monotonic() - started, 2),
        "timed": len(prompts) - start,  # images drawn in these seconds; others, by a process that was stopped
        "device": device(),
    }
    with writing(folder.parent):
        write_arrays(folder / IMAGES, {"images": images, "labels": labels})
        write_json(folder / MANIFEST, manifest | told)
        for path in blocks_in(folder):
            path.unlink()


def device() -> str:
    """What images are drawn on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{cores()} CPU cores"


def versions() -> dict[str, str]:
    packages = ("torch", "diffusers", "transformers", "numpy")
    return {name: importlib.metadata.version(name) for name in packages} | {"python": platform.python_version()}


def remove_older(folder: pathlib.Path) -> None:
    """Removes what earlier versions of this code, or a pruning that was killed, left of a set whose lock is held."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if OLDER.fullmatch(path.suffix):
            shutil.rmtree(path, ignore_errors=True)


def read(folder: pathlib.Path, digest: str) -> SyntheticSet:
    """Reads a stored set and checks it against its manifest; `digest` is the one that the request has now."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected = [manifest[name] for name in ("digest", "images_sha256", "labels_sha256")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(folder / MANIFEST, f"{type(error).__name__}: {error}", "a whole manifest") from error
    arrays = read_arrays(str(folder / IMAGES), folder / IMAGES, ("images", "labels"), drawn_again(folder))
    if len(arrays) < 2:
        raise damaged(folder / IMAGES, f"no more than {listing(arrays) or 'nothing'}", "images and labels")
    images, labels = arrays["images"], arrays["labels"]
    if [digest, array_digest(images), array_digest(labels)] != expected:
        raise damaged(folder / IMAGES, "other content than was drawn", f"the sha256 in {MANIFEST}")
    blank = labels[one_colour(images)]
    if len(blank):
        named = listing(manifest["class_names"][label] for label in dict.fromkeys(blank.tolist()))
        raise damaged(folder / IMAGES, f"{len(blank)} images of one colour, of {named}", "images that show something")
    with contextlib.suppress(OSError):  # a store that others wrote may be read-only
        os.utime(folder / MANIFEST)  # used now
    return SyntheticSet(images, labels, manifest)


def damaged(path: pathlib.Path, found: str, allowed: str) -> UsageError:
    return UsageError(str(path), found, allowed, drawn_again(path.parent))


def drawn_again(folder: pathlib.Path) -> str:
    """What to do about a damaged set."""
    return f"delete {folder} and it is drawn again"


def request_digest(request: Request, weights: str) -> str:
    """Names a set by what determines its images: the weights stand for the pipeline, wherever it lies."""
    fields = {**request._asdict(), "pipeline": weights}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def array_digest(array: np.ndarray) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def blocks_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of all blocks."""
    return sorted(folder.glob(BLOCK.format("*")))


def write_block(folder: pathlib.Path, number: int, block: generator.Block) -> None:
    """Writes a block, whole or not at all. Raises UsageError: the folder cannot be written."""
    with writing(folder.parent):
        arrays = {"images": block.images, "seeds": np.array(block.seeds, np.int64)}
        write_arrays(folder / BLOCK.format(f"{number:06d}"), arrays)


def read_blocks(folder: pathlib.Path, count: int) -> list[generator.Block]:
    """The sound blocks of a set of `count` images, up to the first that is missing or damaged."""
    done = []
    for start in range(0, count, generator.BATCH):
        try:
            arrays = read_arrays("synthesis", folder / BLOCK.format(f"{len(done):06d}"), ("images", "seeds"))
            images, seeds = arrays["images"], arrays["seeds"].tolist()
        except (UsageError, KeyError):
            break
        if not len(images) == len(seeds) == min(generator.BATCH, count - start):
            break
        done.append(generator.Block(images, tuple(seeds)))
    return done
