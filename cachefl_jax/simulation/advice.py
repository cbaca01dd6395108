"""What the validation rows say of a run's settings: whether they are far from good for these data."""

import math
from collections.abc import Mapping
from typing import Any

from cachefl_jax.config import Row

CERTAIN = 3.0  # standard errors of a difference, as if each row had validation rows of its own


def advice(entries: Mapping[str, Mapping[str, Any]], own: Row, rows: int) -> list[str]:
    """A sentence where the method's own rounds end clearly below another row that it could have been: its settings
    were not chosen for these data then.

    Args:
        entries: of summary.json, by the rows' names.
        own: the row whose settings they are.
        rows: for validation.
    """
    entry = entries.get(own.name, {})
    reached = entry.get("validation_accuracy")
    others = {name: each.get("validation_accuracy") for name, each in entries.items() if name != own.name}
    others = {name: share for name, share in others.items() if share is not None}
    if reached is None or not rows or not entry.get("rounds") or not others:
        return []
    best = max(others, key=others.__getitem__)
    error = math.sqrt((reached * (1 - reached) + others[best] * (1 - others[best])) / rows)
    if others[best] - reached <= max(CERTAIN * error, 1 / rows):
        return []
    label = entries[best].get("label") or best
    tuned = "chooses alpha, beta, rate and rounds" if own.method == "cachefl" else "tunes every row alike"
    command = "sweep" if own.method == "cachefl" else "study"  # shipped sweeps are over CacheFL's fields
    return [
        f"On the validation rows {entry.get('label') or own.name} has {reached:.1%} and {label} {others[best]:.1%}: "
        f"its settings may be far from good for these data. The {command} command with this run's --config, and a new "
        f"--workdir, {tuned} by validation accuracy."
    ]
