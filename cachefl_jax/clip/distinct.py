"""Classes whose texts or weights are equal cannot be told apart: they are refused, whatever the cause.

Axis letters: N classes, D features.
"""

from collections.abc import Sequence

import numpy as np

from cachefl_jax.errors import UsageError

EQUAL = 2e-6  # the largest difference, in any of the D numbers of unit rows, that rounding makes of equal texts
NAMED = 3  # pairs in a message


def check_texts(ids: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuses classes whose texts are the same to the tokenizer; `ids` are all tokens of a class's texts, [N, ...].

    Raises UsageError: names the classes of the first such pairs, and how many there are."""
    first = {}
    pairs = [(first.setdefault(row.tobytes(), number), number) for number, row in enumerate(ids)]
    refuse([pair for pair in pairs if pair[0] != pair[1]], class_names, "the same texts to the tokenizer")


def check_weights(weights: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuses class weights, unit rows [N, D], of which two are equal up to rounding.

    Raises UsageError: as `check_texts`."""
    refuse(equal_pairs(weights), class_names, "equal text features")


def refuse(pairs: Sequence[tuple[int, int]], class_names: Sequence[str], what: str) -> None:
    if pairs:
        named = ", ".join(f"{class_names[first]} = {class_names[second]}" for first, second in pairs[:NAMED])
        more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
        allowed = "text features that differ from class to class"
        mend = "give these classes other names (data.class_names); if all classes are equal, check the text features"
        raise UsageError("classes", f"{what} for {named}{more}", allowed, mend)


def equal_pairs(weights: np.ndarray) -> list[tuple[int, int]]:
    """The rows of [N, D] that equal another, as pairs (earlier, later).

    Equal rows are neighbours along any direction: rows are sorted along one, so that not all N x N are compared."""
    direction = np.random.default_rng(0).normal(size=weights.shape[1])
    places = weights.astype(np.float64) @ direction
    order, reach = np.argsort(places, kind="stable"), EQUAL * np.abs(direction).sum()
    pairs = []
    for place, row in enumerate(order):
        for other in order[place + 1 :]:
            if places[other] - places[row] > reach:
                break
            if np.abs(weights[other] - weights[row]).max() <= EQUAL:
                pairs.append((int(min(row, other)), int(max(row, other))))
                break  # of many equal rows each is a pair with the next
    return sorted(pairs)
