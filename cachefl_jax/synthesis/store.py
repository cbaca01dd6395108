"""The synthetic set is drawn once, kept with its provenance, and read by every later run that asks for the same.

No more than a batch of it is in memory, neither while it is drawn nor while it is read. Sets that older versions drew
(``images.npz``) have other digests: they are drawn again.

Axis letters: n images, B batch.
"""

import contextlib
import datetime
import importlib.metadata
import io
import json
import pathlib
import platform
import re
import shutil
import sys

from PIL import Image

from cachefl_jax.data.images import fingerprint_of
from cachefl_jax.interrupts import finishing, leave_if_asked
from cachefl_jax.storage.files import file_digest, json_if_whole, opened, write_json
from cachefl_jax.storage.home import MANIFEST, SYNTHETIC, home, making, writing
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.synthesis import generator, set_files
from cachefl_jax.synthesis.cost import COST, Meter, device, read_cost, write_cost
from cachefl_jax.synthesis.pipeline import called, find_pipeline, scheduler_of, weights_digest
from cachefl_jax.synthesis.request import Request, request_digest
from cachefl_jax.synthesis.set_files import IMAGES, LINES, file_names
from cachefl_jax.synthesis.stored import SyntheticSet, read

OLDER = re.compile(r"\.[0-9a-f]{32}")


def obtain(request: Request, root: pathlib.Path | None = None) -> SyntheticSet:
    """The requested set: read where it was drawn before, drawn and kept where not.

    It is drawn batch by batch, so that a drawing that was killed goes on where it stopped, in one process at a time.

    `root`: the folder whose ``synthetic/`` holds the sets; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: the pipeline cannot be had, the folder cannot be written, the pipeline draws nothing for a class,
    or what is stored is damaged."""
    directory = find_pipeline(request.pipeline)
    weights = weights_digest(directory)
    digest = request_digest(request, weights)
    folder = folder_of(digest, root)
    with making(folder, "another run draws these images; waiting for it", begun) as aside:
        if aside:
            remove_older(folder)
            manifest = {"digest": digest, **request.as_facts(), "weights_sha256": weights, "versions": versions()}
            manifest["scheduler"] = scheduler_of(directory)
            with writing(folder.parent):
                begin(aside, manifest)
            draw(request, manifest, aside)
    return read(folder, digest, root)


def folder_of(digest: str, root: pathlib.Path | None = None) -> pathlib.Path:
    """Where a set with this digest lies, or will lie; `root` as of `obtain`."""
    return (root or home()) / SYNTHETIC / digest[:16]


def begun(aside: pathlib.Path) -> bool:
    """Whether a later run can go on from what lies there."""
    return next(aside.glob(f"{IMAGES}/*/*"), None) is not None


def begin(aside: pathlib.Path, manifest: dict) -> None:
    """Makes the folder ready for a set to be drawn into. What other versions of the packages drew, or in other batches,
    is drawn again, so that a set is what one undisturbed drawing gives."""
    started = json.loads(json.dumps(manifest))  # as it is read back
    found = json_if_whole(aside / MANIFEST)
    if not isinstance(found, dict) or {name: found.get(name) for name in started} != started:
        if begun(aside):
            print("drawing images: all again, with other settings or versions", file=sys.stderr, flush=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        write_json(aside / MANIFEST, manifest)
    for place in (aside, *aside.glob(f"{IMAGES}/*")):
        remove_leftovers(place)


def draw(request: Request, manifest: dict, folder: pathlib.Path) -> None:
    """Draws what is missing and writes the whole ``manifest.json`` into the folder.

    Raises UsageError: the file system refuses, or as `generator.draw_blocks`."""
    names, batch = file_names(request), request.how.batch_size
    lines = set_files.read_lines(folder, names)
    sound = set_files.first_fault(folder, lines)
    # At the start of a batch: an image depends, by rounding, on those that are drawn with it.
    start = sound if sound == len(names) else sound // batch * batch
    if start:
        print(f"drawing images: going on at image {start} of {len(names)}", file=sys.stderr, flush=True)
    if start < len(names):
        with writing(folder.parent):
            file = opened(folder / LINES, sum(len(set_files.as_text(line)) for line in lines[:start]))
        with file:
            draw_from(start, request, manifest, file)
    with writing(folder.parent):
        finish(request, manifest, folder)


def draw_from(start: int, request: Request, manifest: dict, lines: io.FileIO) -> None:
    """Draws the images from row `start` on, each into its file, and a line of each behind the others."""
    folder, names, labels = pathlib.Path(lines.name).parent, file_names(request), request.labels.tolist()
    prompts, seeds = ([each for row in rows for each in row] for rows in (request.prompts, request.seeds))
    shared = {name: manifest[name] for name in ("weights_sha256", "steps", "guidance", "scheduler", "dtype")}
    shared["model"] = called(request.pipeline)
    meter, row = Meter(read_cost(folder, start)), start
    coming = generator.draw_blocks(request.pipeline, prompts, seeds, request.how, start)
    with finishing(), contextlib.closing(coming):
        for block in coming:
            with writing(folder.parent):
                for pixels, seed in zip(block.images, block.seeds, strict=True):
                    own = {"prompt": prompts[row], "seed": seed, "class": request.class_names[labels[row]]}
                    set_files.add_line(lines, set_files.write_picture(folder, names[row], pixels, shared | own))
                    row += 1
                write_cost(folder, meter.cost(row - start))
            leave_if_asked()


def finish(request: Request, manifest: dict, folder: pathlib.Path) -> None:
    """Writes the manifest of a set of which every image is there."""
    if not (folder / COST).exists() and "seconds" in json.loads((folder / MANIFEST).read_text()):
        return  # a process was killed between this and the folder's own name
    lines = set_files.read_lines(folder, file_names(request))
    seeds = [seed for rows in request.seeds for seed in rows]
    redrawn = {str(row): line.seed for row, line in enumerate(lines) if line.seed != seeds[row]}
    cost = read_cost(folder, len(lines))
    with Image.open(folder / lines[0].name) as first:
        size = [first.height, first.width]
    told = {
        "image_size": size,
        "images_sha256": fingerprint_of(*(line.pixels_sha256 for line in lines)),
        "labels_sha256": fingerprint_of(request.labels),
        "files_sha256": file_digest(folder / LINES),
        "redrawn": len(redrawn),  # images that the pipeline refused at first
        "redrawn_seeds": redrawn,  # of these, by the number of the image
        "seconds": cost.seconds,
        "timed": cost.images,  # images drawn in these seconds: all, unless what was spent on others is not known
        "energy_joules": cost.energy_joules,
        "device": device(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(folder / MANIFEST, manifest | told)
    (folder / COST).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    packages = ("torch", "diffusers", "transformers", "numpy")
    return {name: importlib.metadata.version(name) for name in packages} | {"python": platform.python_version()}


def remove_older(folder: pathlib.Path) -> None:
    """Removes what earlier versions of this code, or a pruning that was killed, left of a set whose lock is held."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if OLDER.fullmatch(path.suffix):
            shutil.rmtree(path, ignore_errors=True)
