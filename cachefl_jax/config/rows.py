"""What a run compares: the rows of its table, each a method under a regime.

A word of ``compare`` is NAME or NAME@REGIME, where NAME is a method's and REGIME one of `AT`. The words of `OWN` stand
for the regimes of config.method, and ``zero_shot`` for CLIP by its texts. A config.method other than the default that
no word names is one more row: who names a method means it, also beside a shipped config's list. The older field
``methods`` says the same and counts more; at its default it says nothing, and without ``compare`` stands for its names
under config.method.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.config.method import METHOD_NAMES, METHODS
from cachefl_jax.errors import UsageError
from cachefl_jax.named import short

AT = ("alone", "centralized", "round_0", "features_once", "fine_tuned")  # what may stand behind an @
OWN = {"cache_init": "round_0", "local_only": "alone"} | {
    name: name for name in ("centralized", "features_once", "fine_tuned")
}
REGIMES = ("federated", *AT, "zero_shot")


class Row(NamedTuple):
    """A row of the table."""

    name: str  # in summary.json; no two rows share one
    method: str  # as config.method names it
    regime: str  # one of REGIMES


def rows_of(config: Mapping[str, Any]) -> list[Row]:
    """The rows of a config, or of its fields as JSON has them, in order; one that is given twice, if only by another of
    its names, counts once."""
    found: dict[tuple, Row] = {}
    for row in (row_of(config.get("method", "cachefl"), word) for word in words_of(config)):
        found.setdefault(row[1:], row)
    rows = list(found.values())
    times = Counter(row.name for row in rows)
    # Objects of one name from several files are told apart by the files.
    return [row._replace(name=in_full(row)) if times[row.name] > 1 else row for row in rows]


def check_rows(fields: Mapping[str, Any]) -> None:
    """Whether rows have what they go on from. Raises UsageError: the federation that one would train on is none."""
    rows = rows_of(fields)
    federated = {row.method for row in rows if row.regime == "federated"}
    for row in rows:
        if row.regime == "fine_tuned" and row.method not in federated:
            allowed = f"with {row.method}, whose last round it goes on from"
            raise UsageError("compare", row.name, allowed, f"add {row.method}")


def words_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that say what is compared."""
    words = tuple(fields.get("methods", METHOD_NAMES))
    if words != METHOD_NAMES:  # whoever sets it means it, also beside a shipped config's compare
        return words
    method = fields.get("method", "cachefl")
    if compare := tuple(fields.get("compare", ())):
        named = {row_of(method, word).method for word in compare if word not in OWN}
        return compare if method in {"cachefl", *named} else (*compare, method)
    return tuple(method if word == "cachefl" else word for word in words)


def row_of(method: str, word: str) -> Row:
    """The row that `word` means where config.method is `method`.

    Raises UsageError: what stands behind its @ is no regime of it."""
    if word == "zero_shot":
        return Row(word, word, word)
    if word in OWN:
        return Row(word, method, OWN[word])
    found = re.fullmatch(r"(.*)@(\w*)", word, re.DOTALL)
    name, regime = found.groups() if found else (word, "federated")
    if found and (regime not in AT or name in ("zero_shot", *OWN)):
        allowed = f"NAME, {', '.join(f'NAME@{each}' for each in AT[:-1])} or NAME@{AT[-1]} of a method, or zero_shot"
        raise UsageError("compare", word, allowed, "correct it")
    name = method if name == short(method) and name not in METHODS else name  # as its rows are called
    row = Row("", name, regime)
    return row._replace(name=in_full(row) if short(name) in {*METHODS, *OWN} else short(in_full(row)))


def in_full(row: Row) -> str:
    """A row's word, with the method's full name."""
    return row.method if row.regime == "federated" else f"{row.method}@{row.regime}"
