"""How the page of a proof of concept writes figures, names and verdicts."""

import re
from collections.abc import Mapping
from typing import Any

from cachefl_jax.poc.samples import reason
from cachefl_jax.poc.verdict import Z
from cachefl_jax.report import units

Decision = Mapping[str, Any]
SHORTEST = 1e-4  # seconds that are told in figures
NO_BREAK, MINUS = "\u00a0", "\u2212"  # between a number and its unit; the sign


def joined(text: str) -> str:
    """A text for the page: its minus signs are such, and no line ends between a number and its error."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, text).replace(" ± ", f"{NO_BREAK}±{NO_BREAK}")


def label(decision: Decision, name: str) -> str:
    """What a row is called."""
    return (decision["rows"].get(name) or {}).get("label", name)


def ways_of(decision: Decision) -> dict[str, Mapping[str, Any]]:
    return {way["name"]: way for way in (decision.get("bytes") or {}).get("ways", ())}


def duration(seconds: float | None) -> str:
    """ "42.0 s", "12.3 min", "4.1 h"; a dash where it is not known."""
    if seconds is None:
        return units.EMPTY
    if 0 < seconds < SHORTEST:
        return f"under {units.readable_seconds(SHORTEST)}"
    if seconds < 120:
        return units.readable_seconds(seconds)
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def signed(gain: Mapping[str, Any] | None) -> str:
    """Points with their 95% interval, "+1.2 ± 2.6"; a dash where there are none."""
    if not gain or gain.get("points") is None:
        return units.EMPTY
    half = gain.get("half")
    return joined(f"{round(gain['points'], 1) + 0.0:+.1f}" + ("" if half is None else f" ± {half:.1f}"))


def accuracy(share: float | None, error: float | None) -> str:
    """ "81.2% ± 1.1", half of the 95% interval from the standard error."""
    interval = "" if None in (share, error) else f" ± {Z * 100 * error:.1f}"
    return joined(units.percent(share) + interval)


def judged(gain: Mapping[str, Any] | None) -> str:
    """A verdict, and where the interval seems to contradict it why it stands."""
    if not gain:
        return ""
    return "; ".join(part for part in (gain.get("verdict") or "", reason(gain)) if part)
