"""A run's config, and the checks that every config goes through.

A config file, such as those of `cachefl_jax.configs`, starts from `default()` and changes what it needs. Names and
meaning are a contract with the scripts that set them. `fields` shows the parts that a config is put together from, each
a file with its fields, what each may be, and what it demands of others; `paths` says what paths mean, `rows` what is
compared, and `components` what a user's own code adds: once such a component is named, its fields may be set as a
group, such as ``config.method, config.probe = "my/probe.py:probe", {"scale": 3.0}``.
"""

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config.components import COMPONENTS, check_own, fit_fields, located_names, own_fields, with_fields
from cachefl_jax.config.field import Field, fits, lookup
from cachefl_jax.config.fields import FIELDS, PARTS
from cachefl_jax.config.method import METHOD_NAMES
from cachefl_jax.config.overrides import fields_of_rows, located_overrides, overrides_of, with_overrides
from cachefl_jax.config.paths import NAMES, PATHS, located_all
from cachefl_jax.config.round import SERVER_DEFAULTS, server_numbers
from cachefl_jax.config.rows import Row, check_rows, rows_of
from cachefl_jax.errors import UsageError

__all__ = [
    "FIELDS",
    "METHOD_NAMES",
    "ROUNDS_BEFORE",
    "SERVER_DEFAULTS",
    "Field",
    "Row",
    "changed",
    "default",
    "differences",
    "fields_of_rows",
    "fits",
    "from_json",
    "lookup",
    "overrides_of",
    "own_fields",
    "resolve",
    "rows_of",
    "server_numbers",
    "validate",
    "with_overrides",
]
ROUNDS_BEFORE = "rounds_before"  # in config.json: the numbers of rounds that the run was to have before it got more


def default() -> ConfigDict:
    """The config of the embedded digits, before tuning: every field of `cachefl_jax.config.fields` at its default."""
    nested: dict[str, Any] = {}
    for field in FIELDS:
        *groups, name = field.name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = field.default
    return ConfigDict(nested)


def changed(config: ConfigDict, changes: Mapping[str, Any], where: str = "") -> ConfigDict:
    """A copy with these values, by dotted names; fields of components that are named among them may be, too.

    Args:
        config: its own components bring their fields as well.
        changes: in any order.
        where: what stands before the field in messages.

    Raises UsageError: there is no such field, or the value is of another type."""
    config = config.copy_and_resolve_references()
    fit_fields(config, {field: value for field, value in changes.items() if field in COMPONENTS})
    for field, value in changes.items():
        try:
            lookup(config, field)
        except (KeyError, AttributeError, TypeError) as error:
            raise UsageError(f"{where}{field}", value, "a field of the config", "correct the name") from error
        try:
            config.update_from_flattened_dict({field: value})
        except (TypeError, ValueError) as error:
            allowed = f"a value of the field's type ({error})"
            raise UsageError(f"{where}{field}", value, allowed, "correct the value") from error
    return config


def resolve(config: ConfigDict) -> ConfigDict:
    """A validated copy with what follows from other fields filled in: a bank brings its own synthetic set.

    Raises UsageError: names the first field that is wrong."""
    config = config.copy_and_resolve_references()
    with_fields(config, own_fields(config))
    check_types(config, expected(config))
    locate(config)
    if config.data.name == "feature_bank" and config.synthesis.source == default().synthesis.source:
        config.synthesis.source = "bank"
    config.server.update(server_numbers(config.server))
    validate(config)
    return config


def locate(config: ConfigDict) -> None:
    """Writes every path of `config` out in full; what is no text is left for `check_types` to tell.

    Raises UsageError: a home folder is not there."""
    samples = default()
    for field in (*PATHS, *NAMES):
        group, name = field.split(".")
        fields = config.get(group)
        if isinstance(fields, ConfigDict) and fits(fields.get(name), lookup(samples, field)):
            fields[name] = located_all(field, fields[name])
    located_names(config)
    located_overrides(config)


def validate(config: ConfigDict) -> None:
    """Checks names, types, ranges, and the relations that need no data.

    Raises UsageError: names the first field that is wrong."""
    check_types(config, expected(config))
    for name in config.methods:
        if name not in METHOD_NAMES:
            raise UsageError("methods", name, ", ".join(METHOD_NAMES), "drop it from the list")
    check_values(config)
    check_rows(config)
    for row in rows_of(config) if config.overrides else ():
        if values := overrides_of(config, row):
            check_values(with_overrides(config, values))


def check_values(config: ConfigDict) -> None:
    """Checks ranges and relations of fields whose types are right.

    Raises UsageError: names the first field that is wrong."""
    for field in (*FIELDS, *own_fields(config)):
        value = lookup(config, field.name)
        if not field.holds(value):
            too_large = isinstance(value, int) and value > field.default  # which is in the range
            near = difflib.get_close_matches(value, field.allowed.split(" | "), 1) if isinstance(value, str) else []
            mend = f"did you mean {near[0]}?" if near else "lower it" if too_large else field.mend
            raise UsageError(field.name, value, field.allowed, mend)
    for part in PARTS:
        part.check(config)
    check_own(config)


def expected(config: ConfigDict) -> ConfigDict:
    """A config of every field that `config` may have, at its default."""
    return with_fields(default(), own_fields(config))


def check_types(config: ConfigDict, expected: ConfigDict, prefix: str = "") -> None:
    """Every field of `expected`, of its type, and no other."""
    for name in config:
        if name not in expected:
            raise UsageError(prefix + name, config[name], f"fields {', '.join(expected)}", "correct the name")
    for name, sample in expected.items():
        field = prefix + name
        if name not in config:
            raise UsageError(field, "nothing", type(sample).__name__, "start from cachefl_jax.config.default()")
        value = config[name]
        if isinstance(sample, ConfigDict):
            if not isinstance(value, ConfigDict):
                raise UsageError(field, value, "a group of fields", "start from cachefl_jax.config.default()")
            check_types(value, sample, f"{field}.")
        elif not fits(value, sample):
            allowed, mend = WANTED[type(sample)]
            raise UsageError(field, value, allowed, mend)
        elif value == "None":  # what a flag makes of None; no field has use for a thing of that name
            mend = f"--config.{field}= with nothing behind it" if sample == "" else f"leave it out: it is {sample}"
            raise UsageError(field, "None", "a name or a path, or nothing", mend)


WANTED = {
    str: ("a text, in quotes; '' for none", "correct it"),
    int: ("a whole number", "correct it"),
    float: ("a number", "correct it"),
    bool: ("True or False", "correct it"),
    tuple: ("texts in brackets, such as ('one','two'); () for none", "put each of them in quotes"),
}  # what a field of each type may be, and the mend


def from_json(fields: dict) -> ConfigDict:
    """A config read back from config.json, where tuples had become lists; fields that are newer than the file are at
    their defaults. What config.json tells besides, of a run that was given more rounds, is no field. Paths that an
    older version left as they were typed start in the current folder, as they did. No code of a user's is loaded: a
    report does without.

    Raises UsageError: a field is of another type than the config's own, or as `locate`."""
    config = filled(default(), {name: value for name, value in fields.items() if name != ROUNDS_BEFORE})
    if isinstance(config.server, ConfigDict):
        config.server.update(server_numbers(config.server))
    locate(config)
    return config


def filled(config: ConfigDict, fields: dict) -> ConfigDict:
    """`config` with these fields instead of its own."""
    for name, value in fields.items():
        if isinstance(value, dict) and isinstance(config.get(name), ConfigDict):
            filled(config[name], value)
        else:
            try:
                config[name] = tuple(value) if isinstance(value, list) else value
            except (TypeError, ValueError) as error:
                allowed = f"a value of the field's type ({error})"
                raise UsageError(f"config.json: {name}", reprlib.repr(value), allowed, "bring the file back") from error
    return config


def differences(left: dict, right: dict) -> list[str]:
    """Dotted names of the fields in which two resolved configs differ; methods and compare, where they ask for other
    rows; writers, which change no result, never."""
    rows = {"methods", "compare"} if rows_of(left) == rows_of(right) else set()
    return [name for name in other_fields(left, right) if name not in {"writers", *rows}]


def other_fields(left: dict, right: dict, prefix: str = "") -> list[str]:
    """Dotted names of the fields whose values differ."""
    found = []
    for name in sorted(left.keys() | right.keys()):
        a, b = left.get(name), right.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += other_fields(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(prefix + name)
    return found
