"""Which class's real images synthetic ones are nearest to, and what real images of their class do themselves.

Axis letters: n and m rows, N classes, P classes that have real images, D features.
"""

import numpy as np

from cachefl_jax.data.bank import Split
from cachefl_jax.synthesis.formulas import unit

DRAWS = 100  # samples of a class's real images


def nearer_another(fake: Split, real: Split, classes: int) -> list[dict]:
    """What each class's images are nearest to among the real classes' mean features, by cosine.

    Of each class {"nearest_real_class": the class that the mean of its images is nearest to, "as_far_by_chance": the
    share of samples of as many real images (half of them at most) whose mean is as much nearer to another class than to
    its own, "nearer_another": share of its images that are nearest to another class, 0 to 1, lower is better,
    "nearer_another_real": the same of the real ones}. Real images are left out of their own class's mean when they are
    compared. None where there are no images to tell."""
    known, wanted = unit(real.features), unit(fake.features)
    sums = np.zeros((classes, known.shape[1]))
    np.add.at(sums, real.labels, known)
    present = np.flatnonzero(np.bincount(real.labels, minlength=classes))
    means = unit(sums[present])
    found = []
    for label in range(classes):
        rows, own = wanted[fake.labels == label], known[real.labels == label]
        others, mine = present != label, present == label
        figures = dict.fromkeys(("nearest_real_class", "as_far_by_chance", "nearer_another", "nearer_another_real"))
        if len(own) and others.any():
            figures["nearer_another_real"] = share(left_out(own, np.arange(len(own))[:, None], means[others]) > 0)
        if len(rows):
            mean = means @ unit(rows.mean(axis=0, keepdims=True))[0]
            figures["nearest_real_class"] = int(present[mean.argmax()])
        if len(rows) and len(own):
            figures["nearer_another"] = share(present[(rows @ means.T).argmax(axis=1)] != label)
        if len(rows) and len(own) and others.any():
            further = left_out(own, samples(len(own), len(rows)), means[others])
            figures["as_far_by_chance"] = share(further >= mean[others].max() - mean[mine])
        found.append(figures)
    return found


def samples(count: int, wanted: int) -> np.ndarray:
    """DRAWS samples of `wanted` of so many rows, half of them at most, [DRAWS, size]; always the same."""
    size = min(wanted, count // 2)
    rng = np.random.default_rng(0)
    return np.array([rng.choice(count, size, replace=False) for _ in range(DRAWS)], np.int64).reshape(DRAWS, size)


def left_out(rows: np.ndarray, chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much nearer the mean of each choice of real rows is to another class than to the mean of its class's rest,
    differences of cosines [choices], negative where it is not; none where nothing is chosen or nothing rests.

    Args:
        rows: of a class, [m, D] of norm 1.
        chosen: numbers of rows, [choices, size].
        others: means of the other classes, [P, D] of norm 1, P at least 1."""
    if not chosen.size or chosen.shape[1] >= len(rows):
        return np.zeros(0)
    parts = np.stack([rows[each].sum(axis=0) for each in chosen])
    rest, means = unit(rows.sum(axis=0) - parts), unit(parts)
    return (means @ others.T).max(axis=1) - (rest * means).sum(axis=1)


def share(which: np.ndarray) -> float | None:
    return float(np.mean(which)) if len(which) else None
