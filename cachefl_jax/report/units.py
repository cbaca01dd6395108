"""Numbers as people read them. Every function takes None for "not measured" and then answers ``EMPTY``."""

import math
import numbers
from collections.abc import Mapping

from cachefl_jax.errors import UsageError

EMPTY = "-"


def number(fields: Mapping, name: str) -> float | None:
    """``fields[name]`` as a number; None where it is absent, null or not finite.

    Raises UsageError: it is something other than a number."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageError(name, value, "a number or null", "let the run write its files again")
    return value if math.isfinite(value) else None


def three_digits(value: float) -> str:
    """About three significant digits, without an exponent: 1.23, 12.3, 123, 1,234."""
    decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{decimals}f}"


def scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    """``value`` in the largest of ``units``, each ``step`` times the last, that leaves 1 or more; "0" needs none."""
    if value == 0:
        return "0"
    power = 0
    while power < len(units) - 1 and abs(value) >= step:
        value, power = value / step, power + 1
    figure = f"{value:,.0f}" if float(value).is_integer() else three_digits(value)
    return f"{figure} {units[power]}"


def percent(share: float | None) -> str:
    """0.94 -> "94.0%"."""
    return EMPTY if share is None else f"{100 * share:.1f}%"


def points(difference: float | None) -> str:
    """A difference of two shares, in points with its sign: 0.34 -> "+34.0"."""
    return EMPTY if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"


def readable_bytes(count: float | None) -> str:
    """327680 -> "320 KiB"."""
    return EMPTY if count is None else scaled(count, 1024, ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))


def exact_bytes(count: float | None) -> str:
    """327680 -> "327,680 bytes"."""
    return EMPTY if count is None else f"{round(count):,} bytes"


def readable_flops(count: float | None) -> str:
    """2.5e9 -> "2.50 GFLOP"."""
    return EMPTY if count is None else scaled(count, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def readable_seconds(duration: float | None) -> str:
    """0.0421 -> "42.1 ms"; 1.5 -> "1.50 s"; 95 -> "95.0 s"."""
    if duration is None:
        return EMPTY
    return f"{three_digits(duration)} s" if duration >= 1 or duration == 0 else f"{three_digits(1000 * duration)} ms"


def integer(count: float | None) -> str:
    """12345 -> "12,345"."""
    return EMPTY if count is None else f"{round(count):,}"


def sentence(text: str) -> str:
    """A text as a sentence begins: "linear probe is" -> "Linear probe is"; a name such as "pFedMe" stays."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].islower() else text
