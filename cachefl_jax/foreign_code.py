"""Code that comes with a model or a data set is never run, and nobody is asked on the terminal whether it may."""

import json
import pathlib

from cachefl_jax.errors import UsageError


def refuse_code(path: pathlib.Path, fields: dict) -> None:
    """Refuses a model's settings file that names code of the model's own.

    Without that code the model is another one than its authors made, so it is not passed over either.

    Raises UsageError: the file has an ``auto_map``."""
    if fields.get("auto_map"):
        allowed = "no code of the model's own: it is never run"
        raise UsageError(f"{path}: auto_map", fields["auto_map"], allowed, "choose another model")


def refuse_code_in(directory: pathlib.Path) -> None:
    """`refuse_code` for all settings files of a model that has a folder for each of its parts.

    Raises UsageError: one of them names code."""
    for path in sorted([*directory.glob("*.json"), *directory.glob("*/*.json")]):
        try:
            fields = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):  # whoever needs the file says so
            continue
        if isinstance(fields, dict):
            refuse_code(path, fields)
