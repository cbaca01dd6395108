"""A synthetic set measured against real images in the space of the run's encoder, class by class and in all.

The figures that take no notice of labels ("all") cannot see images that show another class; those of single classes
and their mean ("mean_of_classes") can. docs/synthesis.md, "Measures", has a table of all figures.

Axis letters: n rows, N classes, D features.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cachefl_jax.data.bank import Split
from cachefl_jax.synthesis.class_means import nearer_another
from cachefl_jax.synthesis.formulas import cmmd, frechet, nearest_real, prdc, vendi

NEAREST = 5  # neighbours of prdc, as its paper has them
COLLAPSED = 0.5  # of the real rows' log Vendi score: a class with less is said to be collapsed
CONFUSED = 0.25  # more of a class's images than of its real ones lie nearer to another class: said
LIKELY = 0.05  # share of means of as many real images that are as far off: of more than that nothing is said
COPIED = 3  # times as many images near a real one as there would be by chance: said
SHOWN = 100  # rows of suspected copies that are listed


def measure(fake: Split, real: Split | None, class_names: Sequence[str]) -> dict:
    """What measures.json holds of a set: plain numbers, and None where rows are too few.

    {"images", "real_images": counts, "features": D, "nearest": k of prdc, "all": the figures of `compare` over all
    classes, "mean_of_classes": their means over classes, "real_halves": those of one half of the real rows against the
    other, what a set as good as real images has at that size, "classes": {name: figures and "flags": [kind]},
    "memorised": `memorised`, "flags": [{"class": name or None, "kind", "text": a sentence}]}.

    Args:
        fake: the server's set.
        real: validation rows, never test ones; None where there are none: then only "vendi" is told.
        class_names: N names."""
    known = np.asarray(real.labels if real is not None else [], np.int64)
    if not len(known):
        return without_real(fake, class_names)
    shares = nearer_another(fake, real, len(class_names))
    classes, flags = {}, []
    for label, name in enumerate(class_names):
        pair = tuple(each.features[each.labels == label] for each in (fake, real))
        figures = compare(*pair) | shares[label]
        nearest = figures["nearest_real_class"]
        figures["nearest_real_class"] = None if nearest is None else class_names[nearest]
        found = flags_of(figures, name)
        classes[name] = figures | {"flags": [each["kind"] for each in found]}
        flags += found
    halves = [unlabelled(real, parity) for parity in (0, 1)]
    near = memorised(fake.features, real.features)
    return {
        "images": len(fake.labels), "real_images": len(known), "features": int(fake.features.shape[1]),
        "nearest": NEAREST, "all": compare(fake.features, real.features), "mean_of_classes": means(classes.values()),
        "real_halves": compare(*halves), "classes": classes, "memorised": near,
        "flags": flags_of_set(fake.features, known, near) + flags,
    }  # fmt: skip


def without_real(fake: Split, class_names: Sequence[str]) -> dict:
    """`measure` where there are no real rows."""
    text = "There are no validation images: the set is measured against nothing, and its diversity alone is told."
    by_class = {name: fake.features[fake.labels == label] for label, name in enumerate(class_names)}
    classes = {name: {**counted(rows), "flags": []} for name, rows in by_class.items()}
    return {
        "images": len(fake.labels), "real_images": 0, "features": int(fake.features.shape[1]),
        "all": counted(fake.features), "mean_of_classes": means(classes.values()), "classes": classes,
        "flags": [{"class": None, "kind": "no real images", "text": text}],
    }  # fmt: skip


def counted(fake: np.ndarray) -> dict:
    """{"images": n, "vendi": of features [n, D]}."""
    return {"images": len(fake), "vendi": vendi(fake) if len(fake) else None}


def compare(fake: np.ndarray, real: np.ndarray) -> dict:
    """The figures of features [n, D] against real ones [m, D]; None where there are too few rows of either.

    "diversity": log Vendi score over that of the real rows, both of as many rows: 0 all alike, 1 as diverse as real
    ones. The others are described where they are computed (`cachefl_jax.synthesis.formulas`)."""
    least = min(len(fake), len(real))
    names = ("frechet", "cmmd", "diversity", "precision", "recall", "density", "coverage")
    figures = {**counted(fake), "real_images": len(real), **dict.fromkeys(names)}
    if least >= 2:
        entropy, real_entropy = (np.log(vendi(some_of(rows, least))) for rows in (fake, real))
        figures |= {"frechet": frechet(fake, real), "cmmd": cmmd(fake, real)}
        figures["diversity"] = float(entropy / real_entropy) if real_entropy > 1e-9 else None
    if least > NEAREST:
        figures |= prdc(real, fake, NEAREST)._asdict()
    return figures


def some_of(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, at random, always the same ones."""
    if len(rows) == count:
        return rows
    return rows[np.random.default_rng(0).choice(len(rows), count, replace=False)]


def unlabelled(rows: Split, parity: int) -> np.ndarray:
    """The features of every second row of each class."""
    order = np.argsort(rows.labels, kind="stable")
    return rows.features[np.sort(order[parity::2])]


def means(figures: Iterable[dict]) -> dict:
    """The mean of each figure over the classes that have it; None where none has."""
    figures = list(figures)
    names = [name for name, value in figures[0].items() if name not in ("flags", "nearest_real_class")]
    found = {name: [each[name] for each in figures if each[name] is not None] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in found.items()}


def memorised(fake: np.ndarray, real: np.ndarray) -> dict | None:
    """Images that lie nearer to a real one than real ones lie to one another, but for the nearest 1%: {"near": that
    distance, "share": of the images, "by_chance": the share that images of the real distribution would have,
    "pairs": [[image, real row, distance]], the nearest SHOWN of them}; None of fewer than two real rows."""
    if len(real) < 2:
        return None
    found = nearest_real(fake, real)
    flagged = np.flatnonzero(found.distances <= found.near)
    flagged = flagged[np.argsort(found.distances[flagged], kind="stable")]
    pairs = [[int(row), int(found.rows[row]), float(found.distances[row])] for row in flagged[:SHOWN]]
    return {"near": found.near, "share": len(flagged) / len(fake), "by_chance": 0.01, "pairs": pairs}


def flags_of(figures: dict, name: str) -> list[dict]:
    """What is to be said of a class's figures."""
    found = {}
    least = min(figures["images"], figures["real_images"])
    if least <= NEAREST:
        counts = f"{figures['images']} images and {figures['real_images']} validation images"
        found["too few"] = f"{name}: {counts} are too few for neighbours; {NEAREST + 1} of each are needed."
    if figures["diversity"] is not None and figures["diversity"] < COLLAPSED:
        found["collapse"] = (
            f"{name}: its images are alike: {figures['diversity']:.2f} of the diversity (log Vendi score) of as many "
            "real ones."
        )
    chance = figures["as_far_by_chance"]
    if figures["nearest_real_class"] not in (None, name) and chance is not None and chance <= LIKELY:
        found["another class"] = f"{name}: its images are on average nearest to real {figures['nearest_real_class']}."
    shares = figures["nearer_another"], figures["nearer_another_real"]
    if None not in shares and shares[0] > shares[1] + CONFUSED:
        told = f"{shares[0]:.0%} of its images are nearest to another class, of real ones {shares[1]:.0%}"
        found["confused"] = f"{name}: {told}."
    return [{"class": name, "kind": kind, "text": text} for kind, text in found.items()]


def flags_of_set(fake: np.ndarray, labels: np.ndarray, near: dict | None) -> list[dict]:
    """What is to be said of the whole set."""
    found = {}
    least, width = min(len(fake), len(labels)), fake.shape[1]
    if least <= width:
        found["biased"] = (
            f"{least} images are fewer than the {width} features need: the Frechet distances are mostly due to that; "
            "compare them between sets of the same size alone."
        )
    if near is not None and near["share"] > COPIED * near["by_chance"]:
        told = f"{near['share']:.1%} of the images lie as near to a validation image as 1% of these do to each other"
        found["memorised"] = f"{told}: look at memorised.pairs."
    return [{"class": None, "kind": kind, "text": text} for kind, text in found.items()]
