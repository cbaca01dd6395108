"""Which folders are splits, sites and classes: read off their names and structure, or refused where several readings
are possible.

A layout is the kinds of folders from the root down to the images: "class", "split/class", "site/class". Folders that
only wrap others (images/, 101_ObjectCategories/, training_set/training_set/) are no level of it.
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cachefl_jax.data.class_names import readable
from cachefl_jax.data.classes import plain
from cachefl_jax.data.split_folders import find_splits, role_in, unwrap
from cachefl_jax.data.splits import ROLES, called_as_sites, check_found, is_no_class
from cachefl_jax.data.tree import FIELD, Folder
from cachefl_jax.errors import UsageError, listing

SUITE_FILES = pathlib.Path(__file__).parent / "suite"
STRAY = 0.05  # the share of images beside the folders up to which the folders around these may still be sites


class Question(NamedTuple):
    """What a reading depends on besides the folders."""

    root: pathlib.Path
    layout: str  # data.layout: "auto", or the levels
    splits: Sequence[str]  # data.splits
    sites: bool = False  # data.group_column=folder: the sites are wanted
    known: frozenset[str] = frozenset()  # plain names of the classes, where they are known beforehand


class Part(NamedTuple):
    """The images of one class in one split, or of those the ones of one site."""

    class_name: str  # as its folder is called
    site: str | None
    folder: Folder


class Reading(NamedTuple):
    """What the folders were understood as."""

    levels: tuple[str, ...]  # of the training images: "split", "site", "class", from the root down
    parts: dict[str, list[Part] | None]  # by role; None where there is no such split
    beside: list[Folder]  # folders beside the splits
    outer: Folder  # what holds the first level: the root, or what it wraps


def read_layout(tree: Folder, question: Question) -> Reading:
    """The splits, classes and sites of a tree.

    Raises UsageError: the folders can be read in several ways, all of which are told, or lack a level."""
    levels = () if question.layout == "auto" else tuple(question.layout.split("/"))
    outer = tree
    if not levels or levels[0] == "split":
        outer, names = find_splits(tree, question.splits, question.root, decided=bool(levels))
        if names:
            return read_divided(outer, names, levels[1:], question)
        if levels:
            check_found(dict.fromkeys(ROLES), question.splits, list(outer.folders), place(question, outer))
    outer = unwrap(outer, len(levels or "1"))
    levels = levels or levels_of(outer, question)
    parts: dict[str, list[Part]] = {}
    for role, part in gather(outer, levels, question):
        parts.setdefault(role, []).append(part)
    if "train" not in parts:
        raise UsageError(FIELD, f"{place(question, outer)} (not {'/'.join(levels)})", "folders in that order",
                         "correct data.layout, or leave it at auto")  # fmt: skip
    return Reading(levels, {role: parts.get(role) for role in ROLES}, [], outer)


def read_divided(outer: Folder, names: dict, levels: tuple[str, ...], question: Question) -> Reading:
    """The reading of a folder that holds a folder of each split; `levels` are the ones inside, where they are given.

    The classes of training tell how the other splits are laid out: they often come without folders of sites."""
    parts: dict[str, list[Part] | None] = dict.fromkeys(ROLES)
    known, asked, train_levels = question.known, question, ()
    for role in ROLES:
        if not names[role]:
            continue
        folder = unwrap(outer.folders[names[role]], len(levels or "1") if role == "train" else 1)
        if not folder.folders:
            splits = repr(tuple("" if each == role else each for each in ROLES)).replace(" ", "")
            mend = "data.layout=class if these folders are the classes"
            mend = f"sort the images by class, or {mend if role == 'train' else f'leave it out: data.splits={splits}'}"
            raise UsageError(FIELD, f"{place(question, folder)} (no folders in it)", "a folder of each class", mend)
        inside = levels if role == "train" and levels else levels_of(folder, asked, ("split",))
        parts[role] = [part for _, part in gather(folder, inside, asked)]
        if role == "train":
            train_levels = inside
            known = frozenset(plain(readable(part.class_name)) for part in parts["train"])
            asked = question._replace(known=known, sites=False)
    beside = [folder for name, folder in outer.folders.items() if name not in names.values()]
    return Reading(("split", *train_levels), parts, beside, outer)


def gather(
    folder: Folder, levels: Sequence[str], question: Question, role: str = "train", site: str | None = None,
    class_name: str = "",
) -> Iterator[tuple[str, Part]]:  # fmt: skip
    """(role, part) for all folders that lie as the levels say.

    Raises UsageError: an image lies in a class's folder and in none of a site, where sites are inside."""
    if not levels:
        yield role, Part(class_name, site, folder)
        return
    level, rest = levels[0], levels[1:]
    if level == "site" and class_name:
        if folder.files:
            found = f"folder, but {question.root / folder.files[0].path} lies in none of a site"
            allowed = "a folder of its site around every image"
            raise UsageError("data.group_column", found, allowed, "sort them by site, or data.layout=site/class")
        if not folder.folders:  # a class without images is told as one
            yield role, Part(class_name, None, folder)
    for name, child in folder.folders.items():
        if level == "split":
            found_role = role_in(name, question.splits)
            if found_role:
                yield from gather(unwrap(child, len(rest)), rest, question, found_role, site, class_name)
        elif level == "site":
            yield from gather(child, rest, question, role, name, class_name)
        else:
            yield from gather(child, rest, question, role, site, name)


def levels_of(folder: Folder, question: Question, around: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The levels from this folder down, without splits around it.

    Raises UsageError: there are no folders in it, or these can be read in several ways."""
    tops = folder.filled or folder.folders
    if not tops:
        mend = "sort the images by class, or say by data.split_file which is which"
        raise UsageError(FIELD, f"{place(question, folder)} (no folders in it)", "a folder of each class", mend)
    if (
        any(map(is_no_class, tops))
        and len(tops) > 1
        and not any(plain(readable(top)) in question.known for top in tops)
    ):
        found = f"{place(question, folder)} ({listing(map(readable, tops))}, not called as classes are)"
        mend = "name the folder of the class folders, or --config.data.layout=class if these are the classes"
        raise UsageError(FIELD, found, "a folder of each class", mend)
    plainly = ("class", "site") if question.sites else ("class",)
    divided = not around and splits_inside(tops, question)
    if divided and all(each.files for top in tops.values() for each in top.filled.values()):
        return ("class", "split")
    insides = [
        {name for each in (top.filled.values() if divided else (top,)) for name in each.filled} for top in tops.values()
    ]
    direct = 0 if divided else sum(len(top.files) for top in tops.values())
    many = direct > STRAY * folder.images
    readings = {(*around, *plainly): False, (*around, "site", "class"): True}
    if divided:
        readings = {("class", "split"): False, ("site", "split", "class"): True}
    by_site = sites_outside(list(tops), insides, many, question)
    if by_site is None:
        raise unclear(question, folder, readings, list(tops), set().union(*insides))
    levels = next(each for each, outside in readings.items() if outside == by_site)[len(around) :]
    if by_site and not divided:
        classes = [inner for top in tops.values() for inner in top.filled.values()]
        if crossing([set(inner.filled) for inner in classes]) and not question.known:
            raise unclear(question, folder, readings, list(tops), set().union(*insides))
    return levels


def sites_outside(tops: list[str], insides: list[set[str]], many: bool, question: Question) -> bool | None:
    """Whether the outer folders are sites, and the ones inside classes; None where that is not plain.

    Args:
        insides: the names of the folders inside each of them.
        many: whether many images lie in outer folders directly, and so in none inside."""
    inner = sorted(set().union(*insides))
    outside, inside = (sum(plain(readable(name)) in question.known for name in names) for names in (tops, inner))
    if outside != inside and 2 * max(outside, inside) >= len(inner if inside > outside else tops):
        return inside > outside
    sites = called_as_sites(tops)
    if many or not inner:
        return None if sites and not question.known else False
    found = by_public_names(tops, inner) if question.sites and not question.known else None
    if found is not None and not sites and crossing(insides):
        return found
    crossed = crossing(insides)
    if sites or called_as_sites(tops, directions=True):
        return True if crossed and not called_as_sites(inner, directions=True) else None
    return None if crossed and not called_as_sites(inner, directions=True) else False


def by_public_names(tops: Sequence[str], inner: Sequence[str]) -> bool | None:
    """Whether the inner folders are called as classes of the data sets that are known by name, two or more and half of
    them, and no outer one is; False the other way round; None where neither holds. Sites are seldom called cat."""
    known = public_classes()
    outside, inside = (sum(plain(readable(name)) in known for name in names) for names in (tops, inner))
    if outside and inside:
        return None
    most, names = max((outside, tops), (inside, inner), key=lambda pair: pair[0])
    return inside > outside if most > 1 and 2 * most >= len(names) else None


@functools.cache
def public_classes() -> frozenset[str]:
    """The plain names of all classes of `data/suite`."""
    texts = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SUITE_FILES.glob("*.json"))]
    return frozenset(plain(name) for text in texts for name in text["class_names"] if not name.isdecimal())


def crossing(insides: Sequence[set[str]]) -> bool:
    """Whether folders of equal names lie inside several others, so that either may be classes; one name for all, such
    as images/, tells nothing apart."""
    inner = [name for names in insides for name in names]
    return 1 < len(set(inner)) < len(inner)


def splits_inside(tops: dict[str, Folder], question: Question) -> bool:
    """Whether every outer folder with images holds folders of splits, and these alone."""
    insides = [top.filled for top in tops.values() if top.images]
    roles = [{role_in(name, question.splits) for name in inner} for inner in insides]
    direct = any(top.files for top in tops.values())
    return bool(roles) and not direct and all(each and None not in each for each in roles) and any(
        "train" in each for each in roles
    )  # fmt: skip


def unclear(question: Question, folder: Folder, readings: dict, tops: list[str], inner: set[str]) -> UsageError:
    """The refusal that tells all readings."""
    outside, inside = listing(map(readable, tops)), listing(sorted(map(readable, inner)))
    if not inner:
        found = f"auto, but {place(question, folder)}: {outside} are called as sites are, with images directly in them"
        mend = "sort each site's images by class, or --config.data.layout=class if these are the classes"
        return UsageError("data.layout", found, "folders of classes in those of sites", mend)
    called = {levels: ["/".join(levels)] for levels in readings}
    for levels, names in called.items():
        if levels[-1] == "class" and not readings[levels] and not any(top.files for top in folder.filled.values()):
            # What lies inside of the classes may be sites.
            names.append(f"{names[0]}/site")
    texts = [
        f"{' or '.join(called[levels])} ({'sites' if by_site else 'classes'} {outside} of {inside})"
        for levels, by_site in readings.items()
    ]
    layouts = [name for names in called.values() for name in names]
    found = f"{question.layout}, but {place(question, folder)} may be {' or '.join(texts)}"
    mend = " or ".join(f"--config.data.layout={layout}" for layout in layouts)
    return UsageError("data.layout", found, " | ".join(layouts), mend)


def place(question: Question, folder: Folder) -> pathlib.Path:
    return question.root / folder.path
