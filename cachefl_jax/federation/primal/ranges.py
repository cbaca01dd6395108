"""Programs for clients of different sizes: small ones get programs of a small capacity, so that one large client makes
no other dearer, and a client of two steps of AdamW never stores its moments.
"""

from cachefl_jax.federation.local import LOOP, NARROW, LocalTraining, LoopLayout, step_count

UNROLLED = 2  # steps of a client that are written out one by one
LARGE = 32  # small clients have a program of their own where the largest client has so many times their rows


def size_ranges(local: LocalTraining) -> list[tuple[LocalTraining, int]]:
    """(local training, rows): clients of at least so many rows, that no range before has taken, train by it."""
    small = -(-max(UNROLLED * local.batch_size, NARROW) // local.batch_size) * local.batch_size
    if local.capacity <= LARGE * small:
        return [(local, 1)]
    return [(local, small + 1), (local._replace(capacity=small), 1)]


def step_ranges(local: LocalTraining, compact: bool = False) -> list[tuple[LoopLayout, LocalTraining, int]]:
    """(loop layout, local training, steps): clients of at least so many steps, that no range before has taken;
    `compact` where a step shall be written out once."""
    if compact or local.compact:
        return [(LOOP, sized, step_count(local, rows)) for sized, rows in size_ranges(local)]
    ranges = []
    for sized, rows in size_ranges(local):
        least = max(step_count(local, rows), UNROLLED + 1)
        if step_count(local, sized.capacity) >= least:
            ranges.append((LoopLayout(peeled=True), sized, least))
    for count in range(UNROLLED, 0, -1):
        if count % local.epochs == 0:
            rows = min(count // local.epochs * local.batch_size, local.capacity)
            ranges.append((LoopLayout(unrolled=count), local._replace(capacity=rows), count))
    return ranges
