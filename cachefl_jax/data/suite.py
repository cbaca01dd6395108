"""Named data sets: where each lies on the hub, what its classes are called, and its prompts (``suite/NAME.json``)."""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from cachefl_jax.config.data import is_described
from cachefl_jax.data import folder, hub, idx
from cachefl_jax.data.class_names import check_names
from cachefl_jax.data.classes import LEFT_OUT, Classes, check_order, match_classes, match_some, name_classes, plain
from cachefl_jax.data.images import TEMPLATES, ImageSet
from cachefl_jax.data.splits import ROLES, read_split_name, role_of
from cachefl_jax.data.tree import ARCHIVES, entries
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.checked_json import TEXT, Fields, check, list_of, maybe, object_of, read
from cachefl_jax.storage.files import read_json
from cachefl_jax.templates import check_templates

SUITE = pathlib.Path(__file__).parent / "suite"
# Fields of the data group that what is known fills in, with what they say where nobody has set them.
UNSET = {"hub": "", "hub_config": "", "splits": ROLES, "class_names": ()}
UNSET |= {"image_column": "image", "label_column": "label"}


OWN = Fields(
    {"class_names": list_of(TEXT, 2)},
    {
        **dict.fromkeys(("title", "hub", "hub_config", "image_column", "label_column"), TEXT),
        **{"folder_names": list_of(TEXT), "templates": list_of(TEXT, 1), "left_out": list_of(TEXT)},
        "splits": object_of(maybe(TEXT)),
    },
)


class NamedSet(NamedTuple):
    """What is known of a data set. Axis letter: N classes."""

    title: str
    hub: str  # OWNER/NAME; "" = no hub has it
    hub_config: str
    splits: tuple[str, str, str]  # what the hub calls train, validation and test; "" = it has none
    image_column: str
    label_column: str
    class_names: tuple[str, ...]  # [N], in the order of the hub's labels
    folder_names: tuple[str, ...]  # [N], what the usual download calls the classes
    templates: tuple[str, ...]
    left_out: tuple[str, ...] = ()  # classes that a copy may have and that are none of these


@functools.cache
def named(name: str, directory: pathlib.Path = SUITE) -> NamedSet:
    """What is known of the data set of this name, or what a user's own FILE.json says of theirs."""
    fields = own(pathlib.Path(name).expanduser()) if name.endswith(".json") else read_json(directory / f"{name}.json")
    fields["splits"] = [fields["splits"][role] or "" for role in ROLES]
    fields["folder_names"] = fields["folder_names"] or fields["class_names"]
    known = {field: fields[field] for field in NamedSet._fields if field in fields}
    return NamedSet(**{field: tuple(value) if isinstance(value, list) else value for field, value in known.items()})


def folder_names_of(data) -> tuple[str, ...]:
    """What folders may be called beside the class names, in their order, [N]; () where nothing is known of them.

    `data`: the config's data group."""
    return named(data.name).folder_names if is_described(data.name) and not data.split_file else ()


def title_of(data) -> str:
    """What the source is called for readers: a described data set's title; else data.name, also of a JSON that is no
    longer there."""
    if not is_described(data.name) or (
        data.name.endswith(".json") and not pathlib.Path(data.name).expanduser().exists()
    ):
        return data.name
    return named(data.name).title


def own(path: pathlib.Path) -> dict:
    """The fields of a user's own JSON, with what it may leave out. Raises UsageError: it says something impossible."""
    mend = "correct the file: docs/data-and-partitions.md shows one"
    found = check(read(path, mend), OWN, str(path), mend=mend)
    names, spelled = found["class_names"], found.get("folder_names") or []
    check_names(names)
    check_templates(f"{path}: templates", found.get("templates", TEMPLATES))
    if len(spelled) not in (0, len(names)):
        allowed = f"{len(names)}, one for each of class_names, or none"
        raise UsageError(f"{path}: folder_names", f"{len(spelled)} names", allowed, mend)
    splits = dict.fromkeys(ROLES) | found.get("splits", dict(zip(ROLES, ROLES, strict=True)))
    rest = {"hub": "", "hub_config": "", "image_column": "image", "label_column": "label", "folder_names": []}
    return rest | {"title": path.stem, "templates": TEMPLATES} | found | {"splits": splits}


def load(name: str, data, directory: pathlib.Path = SUITE, class_names: tuple[str, ...] = ()) -> ImageSet:
    """The named data set from data.path, if that is given, or from the hub.

    data.path holds class folders (called as the usual download, the class names or the hub's numbers call them), IDX
    files, or the images that data.split_file lists; a split file's own class names hold, since published ones differ
    in classes from the hub. Fields of the data group that are not at their default override what is known. Where a
    run's own `class_names` are given, the images need not be of them all.

    Raises UsageError: as `folder.load`, `idx.load` and `hub.load`; or the classes are not the data set's."""
    known = named(name, directory)
    data = with_known(data, known)
    if not data.path and not data.hub:
        raise UsageError(folder.FIELD, "nothing", f"the folder that holds {known.title}", "no hub has it: download it")
    if not data.path:
        return hub.load(data, functools.partial(hub_classes, known=known, data=data), known.templates)
    root = folder.find_root(data.path)
    if any(idx.PATTERN.fullmatch(path.name) for path in root.iterdir()):
        data.splits = ROLES
        return idx.load(data, known.templates)
    if data.split_file:
        own = () if tuple(data.class_names) == known.class_names else tuple(data.class_names)
        number = functools.partial(name_classes, given=own)
        if class_names:
            number = functools.partial(match_some, names=class_names, given=own, field="data.split_file")
        return folder.load(data, number, known.templates)
    if tuple(data.splits) == known.splits and not divided_as_the_hub(root, known.splits):
        data.splits = ROLES

    def match(found: Sequence[str]) -> Classes:
        kept, without = apart(found, known.left_out)
        names, spelled = tuple(data.class_names), known.folder_names
        if class_names:
            classes = match_some(kept, class_names, names, folder.FIELD, spelled)
        else:
            classes = match_classes(kept, names, spelled, folder.FIELD)
        return Classes(classes.names, classes.numbers | without)

    return folder.load(data, match, known.templates, (*known.folder_names, *known.left_out))


def divided_as_the_hub(root: pathlib.Path, splits: Sequence[str]) -> bool:
    """Whether a download has the hub's split folders, and none called test that is not one of them."""
    inside = [name for each in read_outer(root) if (name := read_split_name(each))]
    roles = {name.role for name in inside}
    wanted = {role_of(split) for split in splits if split}
    return wanted <= roles and ("test" in wanted or "test" not in roles)


def read_outer(root: pathlib.Path) -> list[str]:
    """The folders in a folder, or in the one that is all it holds."""
    names = sorted(entry.name for entry in entries(root) if entry.is_dir() and entry.name not in ARCHIVES)
    return read_outer(root / names[0]) if len(names) == 1 and not read_split_name(names[0]) else names


def apart(found: Sequence[str], left_out: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """(the classes that stay, in their order; those that are left out, numbered so)."""
    out = {plain(name) for name in left_out}
    kept = [name for name in found if plain(name) not in out]
    return kept, {name: LEFT_OUT for name in found if plain(name) in out}


def with_known(data, known: NamedSet):
    """A copy of the data group in which fields that nobody has set say what is known; a data.hub of the user's own has
    its own columns and splits."""
    data = data.copy_and_resolve_references()
    fields = ("class_names",) if data.hub else UNSET
    for field in fields:
        if data[field] in (UNSET[field], list(UNSET[field])):
            data[field] = getattr(known, field)
    count = len(known.class_names)
    if len(data.class_names) != count and not data.split_file:
        allowed = f"{count}, one for each class of {known.title}"
        raise UsageError("data.class_names", f"{len(data.class_names)} names", allowed, "name all, or none")
    if not data.split_file:
        check_order(tuple(data.class_names), known.class_names, known.folder_names, "data.class_names")
    return data


def hub_classes(found: Sequence[str], texts: bool, known: NamedSet, data) -> Classes:
    """Numbers the hub's classes: by name where all are known by name, or else by the numbers of the hub's labels.

    `found`: the hub's own names, in the order of its labels; sorted where the labels are `texts` without numbers.

    Raises UsageError: the hub's copy has other classes."""
    names = tuple(data.class_names)
    found, without = apart(found, known.left_out)
    if len(found) != len(names):
        mend = "name another data.hub, or load it by data.name=hub"
        raise UsageError(hub.FIELD, f"{data.hub} ({len(found)} classes)", f"{known.title}'s {len(names)}", mend)
    try:
        numbers = match_classes(found, names, known.folder_names, hub.FIELD).numbers
    except UsageError:
        if texts:
            raise
        check_order(found, known.class_names, known.folder_names, hub.FIELD)
        numbers = {name: number for number, name in enumerate(found)}
    return Classes(names, numbers | without)
