"""The components of a run that a config names, ours or a user's, and the fields that a user's bring along.

Our tables say where each name's object lies, so that a config is checked before JAX loads: `cachefl_jax.named.find`
takes them. A user's object is loaded as soon as a config names it. It may have the attributes ``fields``, a tuple of
`Field` whose names begin with a group of their own, and ``check``, a function of the config that raises `UsageError`.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config.client import ALGORITHMS
from cachefl_jax.config.compression import DOWNLOADS
from cachefl_jax.config.data import SOURCES, is_described
from cachefl_jax.config.field import Field, fits, lookup
from cachefl_jax.config.fields import FIELDS
from cachefl_jax.config.method import METHODS, RIVALS, TRAINED
from cachefl_jax.config.paths import expand
from cachefl_jax.config.round import AGGREGATIONS, PARTICIPATIONS, TRANSFORMS
from cachefl_jax.config.rows import row_of
from cachefl_jax.errors import UsageError
from cachefl_jax.named import broken, check_form, find, is_file, short


class Component(NamedTuple):
    """What a field of names may name."""

    table: dict[str, str]
    kind: str = ""  # "module:class"; "" = any


COMPONENTS = {
    "data.name": Component(SOURCES, "collections.abc:Callable"),
    "method": Component(TRAINED, "cachefl_jax.methods.method:Method"),
    "compare": Component(METHODS, "cachefl_jax.methods.method:Method"),
    "local.algorithm": Component(ALGORITHMS, "cachefl_jax.federation.work:ClientWork"),
    "participation.name": Component(PARTICIPATIONS, "cachefl_jax.federation.participation:Participation"),
    "updates.transforms": Component(TRANSFORMS, "cachefl_jax.federation.transforms:Transform"),
    "downloads.transforms": Component(DOWNLOADS, "cachefl_jax.federation.transforms:Transform"),
    "aggregation.name": Component(AGGREGATIONS, "cachefl_jax.federation.aggregation:Aggregation"),
}


def named(config: ConfigDict) -> list[tuple[str, str]]:
    """(field, name) of each component that `config` names; what is no text is left for the check of types to tell."""
    found = []
    for field in COMPONENTS:
        try:
            value = lookup(config, field)
        except (KeyError, TypeError):
            continue
        names = [value] if isinstance(value, str) else value if isinstance(value, (tuple, list)) else []
        names = [row_of(str(config.method), name).method if field == "compare" else name for name in map(str, names)]
        found += [(field, name) for name in names]
    return list(dict.fromkeys(found))


def users(config: ConfigDict) -> list[tuple[str, Any]]:
    """(name, object) of each component of `config` that is a user's.

    Raises UsageError: as `find`, for these and for our names."""
    found = {}
    for field, name in named(config):
        table, kind = COMPONENTS[field]
        if name in table or (field == "data.name" and is_described(name)):
            continue
        check_form(field, name, table)
        found[name] = find(field, name, table, kind)
    return list(found.items())


def bringing(config: ConfigDict) -> list[tuple[str, Any]]:
    """(name, object) of each component of `config` that may bring fields: a user's, and methods of ours beside CacheFL,
    whose fields every config has.

    Raises UsageError: as `users`."""
    methods = {name for field, name in named(config) if field in ("method", "compare") and name in RIVALS}
    table, kind = COMPONENTS["compare"]
    return [*users(config), *((name, find("method", name, table, kind)) for name in sorted(methods))]


def own_fields(config: ConfigDict) -> list[Field]:
    """The fields that the components of `config` bring along.

    Raises UsageError: a component is not to be had, or its fields are not as they must be."""
    fields: dict[str, Field] = {}
    groups = {field.name.split(".")[0] for field in FIELDS}
    for name, each in bringing(config):
        brought = getattr(each, "fields", ())
        for field in brought if isinstance(brought, Iterable) else (brought,):
            if field in FIELDS:  # a component made from one of ours
                continue
            check_field(name, field, groups)
            if fields.setdefault(field.name, field) is not field:
                allowed = "a name that no other component's field has"
                raise UsageError(name, f"the field {field.name}", allowed, "call its group otherwise")
    return list(fields.values())


def check_field(name: str, field: Any, groups: set[str]) -> None:
    """Whether `field` may stand in a config as the component `name` brings it. Raises UsageError: it may not."""
    if not isinstance(field, Field):
        allowed = "fields that are cachefl_jax.config.Field"
        raise UsageError(name, f"the field {field!r}", allowed, "Field(name, default, meaning, holds, allowed, mend)")
    group, dot, _ = field.name.partition(".")
    sound = all(part.isidentifier() and not hasattr(ConfigDict, part) for part in field.name.split("."))
    if not dot or group in groups or not sound:
        allowed = f"a dotted name in a group of its own, such as {short(name)}.scale"
        raise UsageError(name, f"the field {field.name}", allowed, "call it otherwise")
    if not isinstance(field.default, (str, int, float, bool, tuple)) or not field.holds(field.default):
        allowed = f"a text, number, switch or tuple of texts in its range ({field.allowed})"
        raise UsageError(name, f"the field {field.name} with default {field.default!r}", allowed, "correct its default")


def with_fields(config: ConfigDict, fields: Iterable[Field]) -> ConfigDict:
    """`config` itself, where a field that it lacks is at its default.

    Raises UsageError: a value stands where a field's group should."""
    with config.unlocked():
        for field in fields:
            *groups, name = field.name.split(".")
            place = config
            for group in groups:
                if group not in place:
                    place[group] = ConfigDict()
                place = place[group]
                if not isinstance(place, ConfigDict):
                    raise UsageError(group, place, "a group of fields", f"set {field.name} instead")
            value = place.get(name, field.default)
            if type(value) is not type(field.default) and fits(value, field.default) and field.holds(value):
                del place[name]  # else the new value would be turned into the old one's type
                value = type(field.default)(value)  # a whole number for a float, a list for a tuple
            place[name] = value
    return config


def check_own(config: ConfigDict) -> None:
    """Asks the components of `config` whether they agree with it.

    Raises UsageError: one of them does not, or its check fails."""
    for name, component in bringing(config):
        check = getattr(component, "check", None)
        try:
            if check is not None:
                check(config)
        except UsageError:
            raise
        except Exception as error:  # it is the user's own program, and raises whatever it does
            raise broken(name, "check", error, "a check that returns or raises UsageError") from error


def fit_fields(config: ConfigDict, names: Mapping[str, Any]) -> None:
    """Gives `config` these components: the fields of those that it loses go, those of the new ones come.

    Args:
        config: it stays locked if it is.
        names: values of fields in `COMPONENTS`; what has another type is left for the check of types to tell.

    Raises UsageError: as `own_fields`."""
    before = own_fields(config)
    for field, value in names.items():
        *group, name = field.split(".")
        place = lookup(config, group[0]) if group else config
        if fits(value, place[name]):
            place[name] = tuple(value) if isinstance(value, list) else value
    after = own_fields(config)
    with config.unlocked():
        for field in before:
            if field not in after:
                remove(config, field.name.split("."))
    with_fields(config, after)


def remove(config: ConfigDict, path: list[str]) -> None:
    """Takes a field away, and the groups that it leaves empty."""
    name, *rest = path
    if name in config:
        if rest and isinstance(config[name], ConfigDict):
            remove(config[name], rest)
        if not rest or not config[name]:
            del config[name]


def written_out(field: str, name: Any) -> Any:
    """A component's name, its file's path in full. Raises UsageError: a home folder is not there."""
    if not isinstance(name, str) or not is_file(name):
        return name
    place, _, attribute = name.rpartition(":")
    return f"{pathlib.Path(expand(field, place)).absolute()}:{attribute}"


def located_names(config: ConfigDict) -> None:
    """Writes the path of every file that holds a component of `config` out in full.

    Raises UsageError: a home folder is not there."""

    for field in COMPONENTS:
        *groups, name = field.split(".")
        place = lookup(config, groups[0]) if groups else config
        if isinstance(place, ConfigDict) and name in place:
            value = place[name]
            several = isinstance(value, (tuple, list))
            place[name] = tuple(written_out(field, each) for each in value) if several else written_out(field, value)
