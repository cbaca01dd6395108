"""Which number a class has, and what it is called.

Axis letter: N classes.
"""

import collections
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.class_names import FIELD, check_names, composed
from cachefl_jax.data.images import ImageSet
from cachefl_jax.data.sampling import splits_of
from cachefl_jax.errors import UsageError, listing

LEFT_OUT = -1  # in place of a class's number: its images are passed over


class Classes(NamedTuple):
    """The classes of a source."""

    names: tuple[str, ...]  # N of them
    numbers: dict[str, int]  # from what the source calls a class; LEFT_OUT for one that is none of them


def plain(name: str) -> str:
    """A name without what spellings differ in: only its letters and digits, in lower case."""
    return re.sub(r"[\W_]+", "", composed(name.casefold()))


def in_order(names: Collection[str]) -> list[str]:
    """Sorted by name; by value where all are numbers, so that 10 comes after 9."""
    return sorted(names, key=int) if all(re.fullmatch("[0-9]+", name) for name in names) else sorted(names)


def name_classes(found: Sequence[str], given: Sequence[str]) -> Classes:
    """Numbers the classes that a source calls `found`, and names them as `given`, where something is given.

    Given names that are the found ones in another spelling or order are matched by name, and their order holds.
    Other names go with the found ones in turn; a name that would so go to another's class is refused.

    Args:
        found: the source's own names in its own order; folders come sorted.
        given: data.class_names.

    Raises UsageError: as many names as there are classes are not given, or names are given twice or crosswise."""
    if not given:
        check_names(found)
        return Classes(tuple(found), {name: number for number, name in enumerate(found)})
    check_names(given)
    if len(given) != len(found):
        allowed = f"{len(found)}, one for each class of the source ({listing(found)})"
        raise UsageError(FIELD, f"{len(given)} names", allowed, "give one a class, in this order")
    known = spellings(given)
    matched = [known.get(plain(name)) for name in found]
    if None not in matched and len(set(matched)) == len(found):
        return Classes(tuple(given), dict(zip(found, matched, strict=True)))
    for number, match in enumerate(matched):
        if match is not None and match != number:
            allowed = f"the source's own names, or others in the order of these ({listing(found)})"
            crossed = f"{given[number]!r} for the class {found[number]!r}"
            raise UsageError(FIELD, crossed, allowed, "give one a class, in this order")
    return Classes(tuple(given), {name: number for number, name in enumerate(found)})


def match_classes(found: Sequence[str], names: Sequence[str], spelled: Sequence[str], field: str) -> Classes:
    """Numbers the classes that a source calls `found` as a named data set does.

    Args:
        found: what the source calls its classes, such as its folders: in another spelling, or by number.
        names: the data set's class names, [N].
        spelled: what its usual download calls them, [N].

    Raises UsageError: names the classes that are missing, and those that are none of the data set's."""
    ordered, known = in_order(found), spellings(names) | spellings(spelled)
    numbers = {name: known[plain(name)] for name in ordered if plain(name) in known}
    unknown = [name for name in ordered if name not in numbers]
    # Numbers count as such only where they are not the classes' names, whose order may be another.
    if unknown and ordered in ([str(number + first) for number in range(len(names))] for first in (0, 1)):
        return Classes(tuple(names), {name: number for number, name in enumerate(ordered)})
    missing = [names[number] for number in sorted(set(range(len(names))) - set(numbers.values()))]
    if unknown or missing or len(numbers) != len(names):
        faults = [f"missing ({len(missing)}): {listing(missing)}"] if missing else []
        faults += [f"unknown ({len(unknown)}): {listing(unknown)}"] if unknown else []
        found_text = "; ".join(faults) or "named twice, in several spellings"
        mend = "complete or rename them, or load them by data.name=image_folder"
        raise UsageError(field, f"classes {found_text}", f"the data set's {len(names)} classes", mend)
    return Classes(tuple(names), numbers)


def match_among(found: Sequence[str], names: Sequence[str], field: str, spelled: Sequence[str] = ()) -> Classes:
    """As `match_classes`, where the source may have further classes, which are left out.

    Raises UsageError: a class is missing, or is there in several spellings."""
    spelled = spelled or names
    known = spellings(names) | spellings(spelled)
    among = [name for name in found if plain(name) in known]
    if {known[plain(name)] for name in among} != set(range(len(names))):
        return match_classes(found, names, spelled, field)
    classes = match_classes(among, names, spelled, field)
    return Classes(classes.names, classes.numbers | {name: LEFT_OUT for name in found if name not in among})


def match_some(
    found: Sequence[str], names: Sequence[str], given: Sequence[str], field: str, spelled: Sequence[str] = ()
) -> Classes:
    """Numbers the classes that a source calls `found` as a run does, of whose classes it may lack some.

    Args:
        found: the source's own names.
        given: data.class_names: where it names as many as there are found, these go in turn as they did in the run.
        spelled: what the usual download of a named data set calls its classes, in the order of `names`.

    Raises UsageError: a class is none of the run's."""
    known = spellings(names) | (spellings(spelled) if len(spelled) == len(names) else {})
    matched = {name: known[plain(name)] for name in found if plain(name) in known}
    if len(matched) < len(found) and len(given) == len(found):
        classes = name_classes(found, given)
        if classes.names == tuple(names):
            return classes
    unknown = [name for name in found if name not in matched]
    if unknown or len(set(matched.values())) < len(matched):
        told = f"unknown ({len(unknown)}): {listing(unknown)}" if unknown else "named twice, in several spellings"
        raise UsageError(field, f"classes {told}", f"the run's own, {listing(names)}", "rename or remove them")
    return Classes(tuple(names), matched)


def check_order(found: Sequence[str], names: Sequence[str], spelled: Sequence[str], field: str) -> None:
    """Refuses names that are to go with a data set's in turn, where one is known to be of another class.

    Args:
        names: the data set's class names, [N].
        spelled: what its usual download calls them, [N].

    Raises UsageError: names the ones that are out of place."""
    known = spellings(names) | spellings(spelled)
    crossed = [name for number, name in enumerate(found) if known.get(plain(name), number) != number]
    if crossed:
        raise UsageError(field, f"{listing(crossed)} out of place", f"the order {listing(names)}", "put them in order")


def spellings(names: Sequence[str]) -> dict[str, int]:
    """Numbers by plain name; names that differ in spelling alone are left out, being no help."""
    plains = [plain(name) for name in names]
    counts = collections.Counter(plains)
    return {name: number for number, name in enumerate(plains) if counts[name] == 1}


def check_source(source: ImageSet, field: str) -> None:
    """Refuses a source that nothing can be learnt or measured on.

    Raises UsageError: a split or a class is empty, or there are fewer than two classes."""
    names = source.class_names
    if len(names) < 2:
        raise UsageError(field, f"the classes {listing(names) or 'none'}", "2 or more", "bring images of another class")
    for what, split in splits_of(source).items():
        if not len(split.labels):
            raise UsageError(field, f"no images in the {what} split", "one or more", "bring more images")
    lacking = np.flatnonzero(np.bincount(source.train.labels, minlength=len(names)) == 0)
    if len(lacking):
        found = f"classes without training images ({len(lacking)}): {listing(names[label] for label in lacking)}"
        raise UsageError(field, found, "one or more of every class", "bring some, or take the classes out")
