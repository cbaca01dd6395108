"""Images nearest to features that were found in updates: what an attacker would see."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from cachefl_jax.privacy.audit.closeness import nearest, paired
from cachefl_jax.privacy.audit.part import Context, Table
from cachefl_jax.report.pictures import strip
from cachefl_jax.simulation.leaks import Case, Laboratory, Taken
from cachefl_jax.simulation.prepare import images_of, of_one_size

MOST = 10  # images of a strip


def pictured(context: Context, laboratory: Laboratory, cases: list[tuple[Case, Taken]]) -> list[Table]:
    """A table for each case: the true images, and the nearest to the features found, among all clients' images and
    among the test images, as somebody without the clients' data has some. Of a feature bank, none."""
    if context.inputs.images is None:
        return []
    from cachefl_jax.data.skew import change_images

    config = context.config
    source, _, _, partition = images_of(config)
    train = change_images(source.train, partition, config.partition, config.seed).images
    test, found = source.test.images, []
    for case, taken in cases:
        rows, features = shown(laboratory, case, taken)
        true = laboratory.features[rows]
        closest, public = (nearest(features, each) for each in (laboratory.features, context.inputs.bank.test.features))
        cosines = np.abs((features * true).sum(axis=1))
        lines = [
            ("the client's image", image(train, rows, "the client's images")),
            ("nearest of all clients' images", image(train, closest, "nearest training images")),
            ("nearest of the test images", image(test, public, "nearest test images")),
            ("|cos| to the true feature", "  ".join(f"{cosine:.2f}" for cosine in cosines)),
        ]
        found.append(Table(caption(case, len(rows)), ("", "from left to right"), lines))
    return found


def shown(laboratory: Laboratory, case: Case, taken: Taken) -> tuple[np.ndarray, np.ndarray]:
    """(rows [P], the features found for them [P, D]): of clients of one row the first ones, else all of the first."""
    if taken.rows.shape[1] == 1:
        return taken.rows[:MOST, 0], taken.features[:MOST, 0]
    own = taken.rows[0]
    pairs = paired(taken.features[0], laboratory.features[own])
    return own[:MOST], taken.features[0][pairs][:MOST]


def caption(case: Case, count: int) -> str:
    """What the images are of."""
    if case.summed > 1:
        return f"A {case.label} clients of one row each: the first {count} rows of the first sum"
    if case.rows == 1:
        return f"Clients of one row each, no defence: the first {count}"
    return f"A client of {case.rows} rows, no defence: the first client"


def image(images: Sequence, rows: np.ndarray, what: str) -> Markup:
    """Images side by side."""
    shown = strip(of_one_size(images[row] for row in rows))
    return Markup('<img src="{}" alt="{} {}">').format(shown, len(rows), what)
