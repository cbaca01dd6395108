"""What the run of a folder may be given more of: rounds, and rows to compare. All else of its config stays."""

import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config import Row, differences, overrides_of, own_fields, rows_of
from cachefl_jax.config.as_json import resolved, told_apart
from cachefl_jax.errors import UsageError


def refuse_other_config(folder: pathlib.Path, before: ConfigDict, config: ConfigDict) -> None:
    """Stops unless a config is the one that the folder's run was begun with, if need be with more rounds or rows.

    Raises UsageError: the fields that differ are named, or the run may not have more rounds."""
    theirs, ours = resolved(before), resolved(config)
    fields = [name for name in differences(theirs, ours) if name not in of_more_rows(before, config)]
    if fields == ["rounds"] and ours["rounds"] > theirs["rounds"]:
        refuse_more_rounds(folder, config, theirs["rounds"])
    elif fields == ["rounds"]:
        allowed = f"{theirs['rounds']} or more: as many has the run in {folder}"
        raise UsageError("rounds", ours["rounds"], allowed, "raise it, or name another --workdir")
    elif fields:
        value = f"{folder} with another config ({told_apart(theirs, ours, fields)})"
        allowed = "a new folder, or the same config (rounds and rows of compare may be more)"
        raise UsageError("--workdir", value, allowed, "name another folder")


def of_more_rows(before: ConfigDict, config: ConfigDict) -> list[str]:
    """The fields that may differ where a config has all rows of another, with the values that these have, and maybe
    more: which rows there are, what they train by, and the fields of methods that the other did not name."""
    rows = rows_of(before)
    if not set(rows) <= set(rows_of(config)):
        return []
    of_rounds = Row(config.method, config.method, "federated")  # whether it is compared or not
    alike = all(overrides_of(before, row) == overrides_of(config, row) for row in (of_rounds, *rows))
    new = {field.name for field in own_fields(config)} - {field.name for field in own_fields(before)}
    groups = {".".join(parts[:end]) for parts in (name.split(".") for name in new) for end in range(1, len(parts))}
    return ["methods", "compare", *(["overrides"] if alike else []), *new, *groups]  # a group differs where it is new


def refuse_more_rounds(folder: pathlib.Path, config: ConfigDict, before: int) -> None:
    """Stops where what rounds already have was chosen for so many rounds alone. Raises UsageError: it was."""
    if config.participation.buffer:
        allowed = f"{before}: which params the server of the run in {folder} keeps for its sites follows from them"
        mend = "name another --workdir, or drop participation.buffer there"
        raise UsageError("rounds", config.rounds, allowed, mend)
    privacy = config.privacy
    if privacy.mechanism == "matrix" or (privacy.mechanism != "none" and not privacy.noise_multiplier):
        allowed = f"{before}, for which the run in {folder} has its noise: more would spend more than it was to"
        mend = "name another --workdir; a run with privacy.noise_multiplier may have more, as far as its budget goes"
        raise UsageError("rounds", config.rounds, allowed, mend)


def more(before: ConfigDict, config: ConfigDict) -> str:
    """What a config has more than the folder's run was begun with, in words; "" where it has nothing."""
    told = []
    if config.rounds > before.rounds:
        told.append(f"from {before.rounds} to {config.rounds} rounds")
    known = rows_of(before)
    if added := [row.name for row in rows_of(config) if row not in known]:
        told.append(f"with {', '.join(added)}")
    return " ".join(told)
