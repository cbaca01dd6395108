"""Values of a row's own: what is compared need not train by one rate.

A word of ``overrides`` is "ROW: field=value", where ROW is a word of ``compare``: a method's name for all its rows,
NAME@regime for one, which counts more. Fields that say what the rows share, such as data and partition, have no
values of a row's own.
"""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config.components import own_fields, written_out
from cachefl_jax.config.field import fits, lookup
from cachefl_jax.config.method import METHODS
from cachefl_jax.config.rows import OWN, Row, in_full, row_of, rows_of
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.named import short

GROUPS = ("local", "server", "personal")  # whose fields a row may have values of, beside those of its method
FINE_TUNED = ("local", "personal")  # what may differ from the rounds that a fine-tuned row goes on from
FIELDS = ("rounds", "cache.alpha", "cache.beta", "privacy.clip_norm")
FORM = "texts such as 'linear_probe: local.learning_rate=0.01'"


def parsed(word: str) -> tuple[str, str, str]:
    """(row, field, value) of a word. Raises UsageError: it has another form."""
    row, colon, assignment = word.rpartition(": ")
    field, equals, value = assignment.partition("=")
    if not colon or not equals or not row.strip() or not field.strip():
        raise UsageError("overrides", word, FORM, "correct it")
    return row.strip(), field.strip(), value.strip()


def located_overrides(config: ConfigDict) -> None:
    """Writes the rows of `overrides` that are a user's out in full, as `compare` and `method` have them.

    Raises UsageError: a word has another form, or no row is called so."""
    config.overrides = tuple(word_in_full(config, word) for word in config.overrides)


def word_in_full(config: ConfigDict, word: str) -> str:
    """A word of `overrides`, its row with the full name of a user's method; a method of ours need not be compared.

    Raises UsageError: no row is called so, or several are."""
    name, field, value = parsed(word)
    meant = row_of(config.method, name)
    if name in OWN or meant.method in METHODS:
        return word
    rows, full = rows_of(config), written_out("overrides", meant.method)
    methods = {config.method, *(row.method for row in rows)}
    found = sorted(each for each in methods if full == each or meant.method == short(each))
    if len(found) != 1:
        names = list(
            dict.fromkeys(name for row in rows for name in (row.name, row.method) if name in found or not found)
        )
        near = difflib.get_close_matches(name, {*names, *METHODS, *OWN}, n=1)
        mend = f"did you mean {near[0]}?" if near else "correct it, or add it to compare"
        raise UsageError("overrides", name, f"a row of this run, {listing(names, 9)}, or a method of ours", mend)
    return f"{in_full(meant._replace(method=found[0]))}: {field}={value}"


def overrides_of(config: ConfigDict, row: Row) -> dict[str, Any]:
    """The values that a row has of its own, by dotted field.

    Raises UsageError: a word is none, or its field may not have a value of a row's own, or not that one."""
    general, specific = {}, {}
    for name, field, text in map(parsed, config.overrides):
        meant = row_of(config.method, name)
        if meant.method == row.method and meant.regime in ("federated", row.regime):
            found = general if meant.regime == "federated" else specific
            found[field] = value_of(config, field, text)
            if meant.regime == "fine_tuned" and field.split(".")[0] not in FINE_TUNED:
                allowed = f"fields of {' and '.join(f'{group}.*' for group in FINE_TUNED)} for {name}"
                raise UsageError(
                    "overrides", field, allowed, f"say it of {row.method}, whose last round it goes on from"
                )
    return general | specific


def fields_of_rows(config: ConfigDict) -> list[str]:
    """The fields that rows may have values of their own of, a whole group as "local.*"."""
    return [*FIELDS, *(f"{group}.*" for group in GROUPS), *sorted({each.name for each in own_fields(config)})]


def value_of(config: ConfigDict, field: str, text: str) -> Any:
    """`text` as a value of that field. Raises UsageError: it is none, or the field is one that all rows share."""
    allowed = fields_of_rows(config)
    if field.split(".")[0] + ".*" not in allowed and field not in allowed:
        raise UsageError("overrides", field, ", ".join(allowed), "set it for all rows: --config." + field)
    try:
        sample = lookup(config, field)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError("overrides", field, "a field of the config", "correct the name") from error
    value: Any = text
    if not isinstance(sample, str):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
    if not fits(value, sample):
        raise UsageError(f"overrides: {field}", text, f"a value such as {sample!r}", "correct it")
    return type(sample)(value)


def with_overrides(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """The config of a row with these values of its own; the config itself where there are none."""
    if not values:
        return config
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(dict(values))
    return config
