"""A config as a file holds it, and how two of them are told apart."""

import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict


def resolved(config: ConfigDict) -> dict:
    """The config as JSON holds it: plain dicts and lists."""
    return json.loads(json.dumps(config.to_dict()))


def told_apart(theirs: dict, ours: dict, fields: Sequence[str]) -> str:
    """The values of fields, by dotted names, of a folder's config and of the one that was asked for."""
    return ", ".join(f"{name} {at(theirs, name)} there, {at(ours, name)} here" for name in fields)


def at(config: dict, field: str) -> Any:
    """The value at a dotted path, or 'nothing'."""
    for name in field.split("."):
        config = config.get(name, "nothing") if isinstance(config, dict) else "nothing"
    return config
