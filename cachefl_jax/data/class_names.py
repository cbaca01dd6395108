"""Names as text, whatever the locale; whether class names are text, and whether a reader can tell them apart.

Under an ASCII locale Python hands on the bytes of a name that it cannot decode as lone surrogates. Files are opened by
that form; class names, prompts and reports need the text that the bytes spell.
"""

import collections
import os
import re
import unicodedata
from collections.abc import Collection, Sequence

from cachefl_jax.errors import UsageError, listing

FIELD = "data.class_names"


def check_names(names: Sequence[str]) -> None:
    """Refuses names that are no text, as a folder's may be, or blank, and those that read alike in a prompt."""
    mend = "rename them, or name all classes by data.class_names"
    check_text(FIELD, names, mend)
    alike = repeated(names, [as_read(name) for name in names])
    if alike:
        one, other = [name for name in alike if as_read(name) == as_read(alike[0])][:2]
        found = f"{listing(alike)} alike{difference(one, other)}"
        raise UsageError(FIELD, found, "names that differ by more than case, underscores or Unicode form", mend)


def check_text(field: str, names: Sequence[str], mend: str) -> None:
    """Refuses names that no file can hold as text, or that nobody can see, and those that are given twice: of every
    source's classes, since a report that fails on one comes after all the training."""
    garbled = [name for name in names if re.search(r"[\ud800-\udfff]", name)]  # halves of a character, alone
    if garbled:
        raise UsageError(field, f"{listing(garbled)}, not in UTF-8", "names that are text", mend)
    blank = [name for name in names if not name.replace("_", " ").strip()]
    if blank:
        raise UsageError(field, repr(blank[0]), "names that a prompt shows", mend)
    twice = repeated(names, names)
    if twice:
        raise UsageError(field, f"{listing(dict.fromkeys(twice))} twice", "a name of its own for every class", mend)


def repeated(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The names whose key another name has too."""
    counts = collections.Counter(keys)
    return [name for name, key in zip(names, keys, strict=True) if counts[key] > 1]


def as_read(name: str) -> str:
    """A name as a reader of a prompt tells it from others."""
    return composed(composed(name.replace("_", " ")).casefold())


def difference(one: str, other: str) -> str:
    """What two names that read alike differ in, where one cannot see it."""
    if one == other or composed(one) != composed(other):
        return "" if one == other or one.casefold() != other.casefold() else " but for letter case"
    return " but for their Unicode form, composed (NFC) or decomposed (NFD)"


def alike_note(unknown: Sequence[str], known: Collection[str]) -> str:
    """Which of the unknown names is a known one in another spelling."""
    spelled = {as_read(name): name for name in known}
    pairs = [(name, spelled[as_read(name)]) for name in unknown if as_read(name) in spelled]
    return f": {pairs[0][0]} is {pairs[0][1]}{difference(*pairs[0])}" if pairs else ""


def readable(name: str) -> str:
    """The text that a file's name spells in UTF-8; the name itself where it spells none."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name


def on_disk(text: str) -> str:
    """The name by which the file system gives a file called `text`."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode(errors="surrogateescape"))
    return text


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC): an accented letter may also be written as two characters (NFD)."""
    return unicodedata.normalize("NFC", text)
