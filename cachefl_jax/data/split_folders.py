"""Folders of splits: which of a folder's folders are training, validation and test, and what only wraps others."""

import pathlib
from collections.abc import Sequence

from cachefl_jax.data.splits import FIELD, ROLES, check_found, is_no_class, only_one, read_split_name, role_of
from cachefl_jax.data.tree import Folder
from cachefl_jax.errors import UsageError, listing

Names = dict[str, str | None]  # the folder's name of each role


def find_splits(tree: Folder, wanted: Sequence[str], root: pathlib.Path, decided: bool) -> tuple[Folder, Names | None]:
    """(the folder that holds the splits' folders, their names); names are None where there are no such folders, and the
    folder is then the innermost that is no mere wrapper.

    A class may be called train (or test): with images directly in it, among other classes, it is no split.

    Args:
        wanted: data.splits.
        decided: whether the user says that there are splits.

    Raises UsageError: there are split folders without one of those wanted, several for one split, or folders that may
    as well be classes."""
    usual, folder = is_usual(wanted), tree
    while True:
        names = split_names(folder, wanted, root, decided)
        if names and (usual or names["train"]):
            check_found(names, wanted, list(folder.folders), str(root / folder.path))
            return folder, names
        inner = inside_wrapper(folder, 1)
        if inner is None:
            break
        folder = inner
    if not usual:
        names = split_names(tree, wanted, root, decided) or dict.fromkeys(ROLES)
        check_found(names, wanted, list(tree.folders), str(root))
    return folder, None


def is_usual(wanted: Sequence[str]) -> bool:
    """Whether data.splits has no names of the user's own."""
    return all(name in ("", role) for role, name in zip(ROLES, wanted, strict=True))


def role_in(name: str, wanted: Sequence[str]) -> str | None:
    """The role of a folder by its name alone, where its place leaves no doubt that it is a split's."""
    if name in wanted:
        return ROLES[list(wanted).index(name)]
    found = read_split_name(name)
    return found.role if found and is_usual(wanted) and wanted[ROLES.index(found.role)] else None


def split_names(folder: Folder, wanted: Sequence[str], root: pathlib.Path, decided: bool) -> Names | None:
    """The name of each split's folder; None where no folder is called so."""
    families: dict[str, dict[str, list[str]]] = {}
    for name in folder.folders:
        found = read_split_name(name)
        if found:
            families.setdefault(found.rest, {}).setdefault(found.role, []).append(name)
    named = not is_usual(wanted) and all(name in folder.folders for name in wanted if name)
    family = {} if named else choose_family(folder, families)
    if is_usual(wanted) and (not family or not (decided or stands(folder, family, root))):
        return None
    names: Names = {}
    for role, name in zip(ROLES, wanted, strict=True):
        alike = family.get(role_of(name) or "", [each for each in folder.folders if each.casefold() == name.casefold()])
        filled = [each for each in alike if folder.folders[each].images]
        names[role] = name if name in folder.folders else only_one(name, filled or alike) if name else None
    return names


def choose_family(folder: Folder, families: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """The names, by role, that belong together: seg_train with seg_test. Empty where there is none.

    Raises UsageError: there are several, and none has plain names."""
    pairs = {rest: family for rest, family in families.items() if "train" in family and len(family) > 1}
    if not pairs or "" in pairs:
        return pairs.get("") or families.get("", {})
    filled = [family for family in pairs.values() if all(folder.folders[name].images for name in family["train"])]
    found = filled or list(pairs.values())
    if len(found) > 1:
        there = [name for family in found for name in family["train"]]
        mend = "name all three in data.splits, such as ('seg_train','','seg_test')"
        raise UsageError(FIELD, "train", f"one of {', '.join(there)}", mend)
    return found[0]


def stands(folder: Folder, family: dict[str, list[str]], root: pathlib.Path) -> bool:
    """Whether these folders are splits, and not classes of such names. Raises UsageError: they may be either."""
    if "train" in family and len(family) > 1:
        return True
    named = {name for names in family.values() for name in names}
    if all(folder.folders[name].files or not folder.folders[name].folders for name in named):
        return False
    others = [name for name in folder.filled if name not in named]
    if others and "train" not in family:
        return len(family) > 1  # dev beside prod are no splits; val and test are, and one more has no name
    if others:
        found = f"auto, but {root / folder.path} may be class (classes {listing([*sorted(named), *others])}) or "
        found += f"split/class ({listing(sorted(named))} a split, {listing(others)} none)"
        mend = "--config.data.layout=class or --config.data.layout=split/class"
        raise UsageError("data.layout", found, "class | split/class", mend)
    return True


def inside_wrapper(folder: Folder, levels: int) -> Folder | None:
    """The one folder inside that holds all images, with at least `levels` levels of folders; None where this folder is
    no wrapper. An empty folder beside it may be a class that lost its images: then it is none either."""
    if folder.files or len(folder.filled) != 1:
        return None
    (inner,) = folder.filled.values()
    empty = [
        name
        for name, each in folder.folders.items()
        if not is_no_class(name) and not any(below.files or below.others for below in each.below())
    ]
    return None if empty or depth(inner) < levels else inner


def unwrap(folder: Folder, levels: int) -> Folder:
    """The folder, or what its wrappers wrap."""
    inner = inside_wrapper(folder, levels)
    return folder if inner is None else unwrap(inner, levels)


def depth(folder: Folder) -> int:
    """The least number of folders between this one and an image."""
    return 0 if folder.files or not folder.filled else 1 + min(depth(each) for each in folder.filled.values())
