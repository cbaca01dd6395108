"""Values of a row's own: what is compared need not train by one rate.

A word of ``overrides`` is "ROW: field=value", where ROW is a word of ``compare``: a method's name for all its rows,
NAME@regime for one, which counts more. Fields that say what the rows share, such as data and partition, have no
values of a row's own.
"""

import ast
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config.components import own_fields
from cachefl_jax.config.field import fits, lookup
from cachefl_jax.config.rows import Row, row_of
from cachefl_jax.errors import UsageError

GROUPS = ("local", "server", "personal")  # whose fields a row may have values of, beside those of its method
FINE_TUNED = ("local", "personal")  # what may differ from the rounds that a fine-tuned row goes on from
FIELDS = ("rounds", "cache.alpha", "cache.beta")
FORM = "texts such as 'linear_probe: local.learning_rate=0.01'"


def parsed(word: str) -> tuple[str, str, str]:
    """(row, field, value) of a word. Raises UsageError: it has another form."""
    row, colon, assignment = word.rpartition(": ")
    field, equals, value = assignment.partition("=")
    if not colon or not equals or not row.strip() or not field.strip():
        raise UsageError("overrides", word, FORM, "correct it")
    return row.strip(), field.strip(), value.strip()


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


def value_of(config: ConfigDict, field: str, text: str) -> Any:
    """`text` as a value of that field. Raises UsageError: it is none, or the field is one that all rows share."""
    names = {each.name for each in own_fields(config)}
    if field.split(".")[0] not in GROUPS and field not in (*FIELDS, *names):
        allowed = ", ".join((*FIELDS, *(f"{group}.*" for group in GROUPS), *sorted(names)))
        raise UsageError("overrides", field, allowed, "set it for all rows: --config." + field)
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
