"""Broken images: found before anything is encoded, once for each set of images."""

import concurrent.futures
import pathlib

import numpy as np
from tqdm import tqdm

from cachefl_jax.data.formats import LIMIT, pixels_allowed
from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import json_if_whole, write_json
from cachefl_jax.storage.home import CHECKED, home, locked, writing

BLOCK = 64  # images a thread decodes at a time


def check_images(splits: dict[str, LabelledImages], broken: str) -> dict[str, LabelledImages]:
    """The splits, by name, without images that cannot be decoded.

    Every image is decoded once, whole: a file cut short has a sound header. The verdict is kept under the split's
    fingerprint in the user's store, so that later runs need not; images once found broken are tried again, because
    what was wrong may have been mended without a trace in the fingerprint (say, who may read the file).

    Args:
        splits: images; arrays cannot be broken.
        broken: "stop", or "skip" to leave broken images out and say so in the notes.

    Raises UsageError: images are broken and `broken` is "stop", or all of a split are; those of all splits are counted,
    and the first few of each are named."""
    files = {what: split for what, split in splits.items() if not isinstance(split.images, np.ndarray)}
    faults = {what: found for what, split in files.items() if (found := find_broken(split, what))}
    texts = {
        what: f"{len(found)} of {len(splits[what].labels)} that cannot be decoded: {listing(found.values())}"
        for what, found in faults.items()
    }
    emptied = any(len(found) == len(splits[what].labels) for what, found in faults.items())
    if faults and (emptied or broken == "stop"):
        first, *more = texts
        found = "; ".join([texts[first], *(f"{what} images: {texts[what]}" for what in more)])
        raise UsageError(f"{first} images", found, "images that can be decoded", advice(splits, faults, broken))
    sound = dict(splits)
    for what, found in faults.items():
        split = splits[what]
        rows = np.setdiff1d(np.arange(len(split.labels)), list(found))
        note = f"Left out of the {what} images: {texts[what]}."
        sound[what] = select(split, rows)._replace(notes=(*split.notes, note))
    return sound


def advice(splits: dict[str, LabelledImages], faults: dict[str, dict[int, str]], broken: str) -> str:
    """What to do about broken images; to skip them only where images of every class are left."""
    large = any(LIMIT in why for found in faults.values() for why in found.values())
    texts = [f"raise {LIMIT} if you trust what has more"] if large else []
    poor = any(leaves_too_few(splits[what].labels, found, what) for what, found in faults.items())
    if broken == "stop" and not poor:
        return ", or ".join([*texts, "replace or delete them, or --config.data.broken=skip"])
    return ", or ".join([*texts, "bring these images again: without them a class or a split has none"])


def leaves_too_few(labels: np.ndarray, faults: dict[int, str], what: str) -> bool:
    """Whether nothing is left of the split, or of one of the classes that it must show."""
    left = np.delete(labels, list(faults))
    every = what in ("train", "synthetic")
    return not len(left) or (every and set(left.tolist()) != set(labels.tolist()))


def find_broken(split: LabelledImages, what: str) -> dict[int, str]:
    """What is wrong with which row, from the store's verdict or by decoding all."""
    path = home() / CHECKED / f"{split.fingerprint}.json"
    if read_verdict(path, len(split.labels)) == {}:  # nothing is written then: the store may be one that others filled
        return {}
    with locked(path, f"{what}: another run looks through these images; waiting for it"):
        known = read_verdict(path, len(split.labels))
        faults = decode_all(split, range(len(split.labels)) if known is None else sorted(known), what)
        if faults != known:
            broken = {str(row): why for row, why in faults.items()}
            with writing(path.parent):
                write_json(path, {"images": len(split.labels), "broken": broken, "max_pixels": pixels_allowed()})
    return faults


def read_verdict(path: pathlib.Path, count: int) -> dict[int, str] | None:
    """What was found before for `count` images; None where there is no such verdict, it cannot be read, or pictures
    were let pass that today's limit of pixels does not let."""
    try:
        verdict = json_if_whole(path)
        faults = {int(row): str(why) for row, why in verdict["broken"].items()}
        within_limit = int(verdict["max_pixels"]) <= pixels_allowed()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    sound = verdict.get("images") == count and all(0 <= row < count for row in faults)
    return faults if sound and within_limit else None


def decode_all(split: LabelledImages, rows: range | list[int], what: str) -> dict[int, str]:
    """Decodes these rows in threads; what is wrong with those that cannot be."""

    def faults_of(start: int) -> dict[int, str]:
        return {row: why for row in rows[start : start + BLOCK] if (why := fault(split, row))}

    starts, faults = range(0, len(rows), BLOCK), {}
    # The bar waits two seconds: a few images need none.
    bar = tqdm(total=len(rows), desc=f"checking {what}", unit="image", leave=False, disable=None, delay=2)
    with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        try:
            for start, found in zip(starts, pool.map(faults_of, starts), strict=True):
                faults |= found
                bar.update(len(rows[start : start + BLOCK]))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the images still to come
            raise
    return faults


def fault(split: LabelledImages, row: int) -> str:
    """What is wrong with an image; empty if nothing is."""
    try:
        split.images[row]
    except UsageError as error:
        return str(error.value)
    return ""
