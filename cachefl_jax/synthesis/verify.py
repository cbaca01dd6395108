"""Whether a drawn set is what was drawn: every hash computed again, and where asked, some of its images drawn again.

Axis letters: n images, B batch, H W image.
"""

import concurrent.futures
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import fingerprint_of, read_image
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import file_digest
from cachefl_jax.storage.home import MANIFEST
from cachefl_jax.synthesis.cost import device
from cachefl_jax.synthesis.generator import accepted, drawing
from cachefl_jax.synthesis.picture_files import facts_in
from cachefl_jax.synthesis.pipeline import find_pipeline, weights_digest
from cachefl_jax.synthesis.set_files import LINES, Line
from cachefl_jax.synthesis.store import versions
from cachefl_jax.synthesis.stored import Told, read_told


class Report(NamedTuple):
    """What a verification found."""

    images: int  # of the set
    faults: list[str]  # a line each; none where the set is as it was drawn
    drawn: int = 0  # images that were drawn again
    equal: int = 0  # of these, with every pixel as before
    largest: int = 0  # difference of a channel of a pixel, of 255
    elsewhere: tuple[str, ...] = ()  # what was other when the set was drawn: the device, a package


def verify(folder: pathlib.Path, redraw: int = 0) -> Report:
    """Computes every hash of a set again: of the files, of their pixels, of the lines, of labels and of the request.

    Images are drawn again in whole batches, those of their first drawing, spread over the set: on the same machine they
    come out with the same bytes; on another device or with other packages only by and large.

    Args:
        folder: the set's.
        redraw: how many images to draw again, at least; as many as fill whole batches.

    Raises UsageError: images are to be drawn again, and the pipeline is not to be had."""
    try:
        told = read_told(folder)
    except UsageError as error:
        return Report(0, [f"{pathlib.Path(error.field).name}: got {error.value}"])
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        faults = [fault for fault in pool.map(lambda line: fault_of(folder, line), told.lines) if fault]
    report = Report(len(told.lines), faults + strangers(folder, told.lines))
    return redrawn(report, told, folder, redraw) if redraw else report


def in_words(report: Report) -> str:
    """What was looked at, in a line."""
    told = f"{report.images:,} images, {len(report.faults)} faults"
    return f"{told}; drawn again: {report.drawn}, of which {report.equal} equal" if report.drawn else told


def fault_of(folder: pathlib.Path, line: Line) -> str:
    """What is wrong with one image's file; "" where nothing is."""
    try:
        if file_digest(folder / line.name) != line.sha256:
            return f"{line.name} has other bytes than were written"
        pixels = fingerprint_of(in_colour(read_image(str(folder / line.name))))
    except (OSError, ValueError) as error:
        return f"{line.name} cannot be read ({type(error).__name__})"
    facts = facts_in(str(folder / line.name))
    if pixels != line.pixels_sha256 or (facts.get("seed"), facts.get("prompt")) != (line.seed, line.prompt):
        return f"{line.name} has other pixels, seed or prompt than {LINES} tells"
    return ""


def strangers(folder: pathlib.Path, lines: Sequence[Line]) -> list[str]:
    """Files that are no part of the set."""
    known = {MANIFEST, LINES, *(line.name for line in lines)}
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    others = sorted(set(files) - known)
    return [f"{listing(others)} in the folder, of which {LINES} tells nothing"] if others else []


def redrawn(report: Report, told: Told, folder: pathlib.Path, count: int) -> Report:
    """The report, with what drawing `count` images again or more shows."""
    manifest, request, lines = told
    if weights_digest(find_pipeline(request.pipeline)) != manifest["weights_sha256"]:
        found, wanted = f"{request.pipeline} (other weights)", f"the weights {manifest['weights_sha256'][:16]}"
        raise UsageError("synthesis.pipeline", found, wanted, "bring those, or verify without --redraw")
    prompts, seeds = ([each for row in rows for each in row] for rows in (request.prompts, request.seeds))
    batch, different = request.how.batch_size, []
    starts = np.arange(0, len(lines), batch)
    chosen = starts[
        np.unique(np.linspace(0, len(starts) - 1, min(-(-count // batch), len(starts))).round().astype(int))
    ]
    with drawing(request.pipeline, prompts, request.how) as draw:
        for start in chosen.tolist():
            part = slice(start, start + batch)
            block = accepted(draw, prompts[part], seeds[part])
            before = [in_colour(read_image(str(folder / line.name))) for line in lines[part]]
            different += [largest_difference(*each) for each in zip(block.images, before, strict=True)]
    report = report._replace(
        drawn=len(different), equal=different.count(0), largest=max(different), elsewhere=other_place(manifest)
    )
    return report._replace(faults=[*report.faults, *difference(report)])


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    """Of two images [H, W, 3] uint8; 255 where their sizes differ."""
    return 255 if one.shape != other.shape else int(np.abs(one.astype(int) - other).max())


def difference(report: Report) -> list[str]:
    """How drawn images differ from those that were drawn again, in a line, if they do."""
    if report.equal == report.drawn:
        return []
    told = f"{report.drawn - report.equal} of {report.drawn} images differ from what is drawn now"
    told += f", by up to {report.largest} of 255"
    return [f"{told}; the set was drawn with {', '.join(report.elsewhere)}" if report.elsewhere else told]


def other_place(manifest: dict) -> tuple[str, ...]:
    """What was other when a set was drawn: its device, its packages."""
    before = {"device": manifest.get("device"), **manifest["versions"]}
    now = json.loads(json.dumps({"device": device(), **versions()}))
    return tuple(f"{name} {value}" for name, value in before.items() if now.get(name) != value)
