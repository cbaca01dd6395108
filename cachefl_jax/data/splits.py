"""What sources call their splits."""

from collections.abc import Sequence

from cachefl_jax.errors import UsageError

ROLES = ("train", "validation", "test")
SYNONYMS = (("train", "training"), ("validation", "val", "valid", "dev"), ("test", "testing"))
FIELD = "data.splits"


def find_split(wanted: str, there: Sequence[str]) -> str | None:
    """The one among the names `there` that is `wanted`, or its only synonym, whatever the case; None if none is.

    Raises:
        UsageError: several are synonyms and none is exactly `wanted`.
    """
    if wanted in there:
        return wanted
    alike = next((names for names in SYNONYMS if wanted.casefold() in names), (wanted.casefold(),))
    found = [name for name in there if name.casefold() in alike]
    if len(found) > 1:
        raise UsageError(FIELD, wanted, f"one of {', '.join(found)}", "name the one you mean")
    return found[0] if found else None


def find_splits(wanted: Sequence[str], there: Sequence[str], where: str) -> dict[str, str | None]:
    """What the source calls train, validation and test; None for what is "", or has its usual name and is not there.

    Args:
        wanted: the three names that the config gives.
        there: the names that the source has.
        where: the source, for the message.

    Raises:
        UsageError: the training split, or one with a name of the user's own, is not there.
    """
    found = {}
    for role, name in zip(ROLES, wanted, strict=True):
        found[role] = find_split(name, there) if name else None
        if found[role] is None and (role == "train" or name not in ("", role)):
            allowed = f"the splits of {where}: {', '.join(sorted(there)) or 'none'}"
            mend = "name one of these" if role == "train" else 'name one of these, or "" to hold one out of train'
            raise UsageError(FIELD, name or '""', allowed, mend)
    return found
