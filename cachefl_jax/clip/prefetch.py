"""Batches of prepared images, made by threads shortly before they are asked for.

Axis letters: H W image.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cachefl_jax.machine import cores

AHEAD = 2  # batches that may be ready or under way before they are asked for


def prepared_batches(
    pixels_of: Callable[[int], np.ndarray], rows: range, count: int, shape: tuple[int, ...]
) -> Iterator[tuple[range, np.ndarray]]:
    """(rows of a batch, their pixels [count, *shape] uint8) in order; the last batch is filled up with zeros.

    A pool of threads writes every image straight into its batch: Pillow lets go of Python's lock while it decodes and
    resizes. What a thread raises is raised here, as it is."""
    chunks = iter([rows[first : first + count] for first in range(0, len(rows), count)])
    under_way: collections.deque[tuple[range, np.ndarray, list[Future]]] = collections.deque()
    pool = ThreadPoolExecutor(cores(), "images")

    def begin(chunk: range) -> None:
        batch = np.zeros((count, *shape), np.uint8)
        tasks = [pool.submit(place, batch, index, pixels_of, row) for index, row in enumerate(chunk)]
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
    finally:  # what has not begun is left undone when the caller stops
        pool.shutdown(cancel_futures=True)


def place(batch: np.ndarray, index: int, pixels_of: Callable[[int], np.ndarray], row: int) -> None:
    batch[index] = pixels_of(row)
