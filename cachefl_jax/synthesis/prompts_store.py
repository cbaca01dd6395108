"""Descriptions that were asked for are kept in the store, and read by every later run that asks for the same.

An entry is a folder with a ``prompts.json``, {"about": how they were made, "prompts": {class name: [prompts]}}, which a
person may copy, edit and name in synthesis.prompts_file. A model that was stopped goes on with the classes that it has
not described yet.

Axis letter: N classes.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest, json_if_whole, sync, write_json
from cachefl_jax.storage.home import MANIFEST, PROMPTS, home, making, writing
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.synthesis.descriptions import Described

FILE = "prompts.json"
DONE = "classes.jsonl"  # of an entry that is not whole yet: a line a class


def obtain_prompts(
    made_of: Mapping,
    about: Mapping,
    class_names: Sequence[str],
    describer: Callable[[], Callable[[str], Described]],
    root: pathlib.Path | None = None,
) -> dict:
    """What ``prompts.json`` holds: read where it was made before, asked for and kept where not.

    Args:
        made_of: all that determines the prompts, as JSON.
        about: what else the file is to tell, such as the model's name.
        class_names: N names.
        describer: called where a class is missing; gives a function from a class's name to its prompts. Only this call
            needs a model.
        root: the folder whose ``prompts/`` holds the entries; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: as what `describer` gives; the folder cannot be written, or what is stored is damaged."""
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    folder = (root or home()) / PROMPTS / digest[:16]
    manifest = {"digest": digest, "what": f"prompts of {len(class_names)} classes", "made_of": made_of, "about": about}
    with making(folder, "another run asks for these prompts; waiting for it", begun) as aside:
        if aside:
            with writing(folder.parent):
                remove_leftovers(aside)
                write_json(aside / MANIFEST, manifest)  # a leftover tells what it was to become
            found = described_classes(aside, class_names, describer)
            with writing(folder.parent):
                write_json(aside / FILE, as_file(found, class_names, {**about, "made_of": made_of}))
                entry = {"shape": [len(class_names)], "sha256": file_digest(aside / FILE)}
                made_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                write_json(aside / MANIFEST, manifest | {"arrays": {FILE: entry}, "made_at": made_at})
                (aside / DONE).unlink(missing_ok=True)
    return read_entry(folder, digest)


def described_classes(
    folder: pathlib.Path, class_names: Sequence[str], describer: Callable[[], Callable[[str], Described]]
) -> dict[str, Described]:
    """Every class's prompts; those that a stopped process had are read back, the others written as they come."""
    found = {name: each for name, each in done_in(folder).items() if name in class_names}
    missing = [name for name in class_names if name not in found]
    describe = describer() if missing else None
    for name in tqdm(missing, desc="describing classes", unit="class", leave=False, disable=None, delay=1):
        found[name] = describe(name)
        line = json.dumps({"class": name, **found[name]._asdict()}) + "\n"
        with writing(folder.parent), (folder / DONE).open("a") as file:
            file.write(line)
            sync(file)
    return found


def done_in(folder: pathlib.Path) -> dict[str, Described]:
    """The classes that were described before; what follows a line that was cut is asked for again."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        text = (folder / DONE).read_text()
        (folder / DONE).write_text(text[: text.rfind("\n") + 1])  # or the next line would go on from half of one
        for line in text.splitlines():
            value = json.loads(line)
            found[value["class"]] = Described(tuple(value["prompts"]), dict(value["refused"]))
    return found


def begun(folder: pathlib.Path) -> bool:
    """Whether a class has been described."""
    return bool(done_in(folder))


def as_file(found: Mapping[str, Described], class_names: Sequence[str], about: Mapping) -> dict:
    """What ``prompts.json`` holds: classes in the run's order, and what was refused in all."""
    refused: dict[str, int] = {}
    for each in found.values():
        for fault, times in each.refused.items():
            refused[fault] = refused.get(fault, 0) + times
    return {
        "about": {**about, "refused": refused},
        "prompts": {name: list(found[name].prompts) for name in class_names},
    }


def read_entry(folder: pathlib.Path, digest: str) -> dict:
    """A stored ``prompts.json``, checked against its manifest. Raises UsageError: it is damaged or was edited."""
    manifest, value = json_if_whole(folder / MANIFEST), json_if_whole(folder / FILE)
    try:
        expected = [manifest["digest"], manifest["arrays"][FILE]["sha256"]]
        sound = [digest, file_digest(folder / FILE)] == expected and isinstance(value["prompts"], dict)
    except (OSError, KeyError, TypeError):
        sound = False
    if not sound:
        mend = f"name a copy of it by synthesis.prompts_file, or delete {folder} and it is made again"
        raise UsageError(str(folder / FILE), "other content than was written", f"the sha256 in {MANIFEST}", mend)
    with contextlib.suppress(OSError):  # a store that others wrote may be read-only
        os.utime(folder / MANIFEST)  # used now
    return value
