"""Batches of prepared images, made by threads shortly before they are asked for.

Axis letters: H W image.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cachefl_jax.machine import cores

SHARES, MOST = 2, 16  # tasks of a batch for each thread, and images of a task at most: each task costs Python's lock
AHEAD = 2  # batches that may be ready or under way before they are asked for


def prepared_batches(
    pixels_of: Callable[[int], np.ndarray], rows: range, count: int, shape: tuple[int, ...]
) -> Iterator[tuple[range, np.ndarray]]:
    """(rows of a batch, their pixels [count, *shape] uint8) in order; the last batch is filled up with zeros.

    A pool of threads writes every image straight into its batch: Pillow lets go of Python's lock while it decodes and
    resizes. What a thread raises is raised here, as it is. A batch may be read until the next but one is asked for: its
    memory is then written anew, for fresh memory costs more than to fill it."""
    chunks = iter([rows[first : first + count] for first in range(0, len(rows), count)])
    under_way: collections.deque[tuple[range, np.ndarray, list[Future]]] = collections.deque()
    pool, piece = ThreadPoolExecutor(cores(), "images"), max(1, min(MOST, count // (SHARES * cores())))
    given: collections.deque[np.ndarray] = collections.deque()

    def begin(chunk: range) -> None:
        batch = given.popleft() if len(given) > 1 else np.empty((count, *shape), np.uint8)
        batch[len(chunk) :] = 0
        pieces = [slice(first, first + piece) for first in range(0, len(chunk), piece)]
        tasks = [pool.submit(place, batch[own], pixels_of, chunk[own]) for own in pieces]
        under_way.append((chunk, batch, tasks))

    try:
        for chunk in itertools.islice(chunks, AHEAD):
            begin(chunk)
        while under_way:
            chunk, batch, tasks = under_way.popleft()
            for task in tasks:
                task.result()
            for following in itertools.islice(chunks, 1):
                begin(following)
            yield chunk, batch
            given.append(batch)
    finally:  # what has not begun is left undone when the caller stops
        pool.shutdown(cancel_futures=True)


def batches_of(pixels: np.ndarray, rows: range, count: int) -> Iterator[tuple[range, np.ndarray]]:
    """`prepared_batches` of pixels [n, H, W, 3] uint8 that are all there: none is copied, but for the last batch's."""
    for first in range(0, len(rows), count):
        chunk = rows[first : first + count]
        batch = pixels[chunk.start : chunk.stop]
        if len(batch) < count:
            batch = np.concatenate([batch, np.zeros((count - len(batch), *batch.shape[1:]), batch.dtype)])
        yield chunk, batch


def place(batch: np.ndarray, pixels_of: Callable[[int], np.ndarray], rows: range) -> None:
    """Writes the rows' pixels into the first places of the batch."""
    for index, row in enumerate(rows):
        batch[index] = pixels_of(row)
