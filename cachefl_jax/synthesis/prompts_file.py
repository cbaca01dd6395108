"""Prompts that a person wrote or edited: a JSON file with texts, or with descriptors, for every class.

    {"cat": ["a cat on a roof at night.", "a kitten that plays with wool."], "dog": {"descriptors": ["a wet nose"]}}

What a language model was asked for (`cachefl_jax.synthesis.descriptions`) is written as {"about": ..., "prompts": {the
same}}, so that it can be edited and brought again.

Axis letter: N classes.
"""

import collections
import json
import pathlib
import reprlib
from collections.abc import Mapping, Sequence

from cachefl_jax.data.classes import plain, spellings
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.templates import check_templates, fill

Prompts = tuple[tuple[str, ...], ...]  # [N][any number, one or more]
FIELD = "synthesis.prompts_file"
FORM = '{"class name": ["a prompt", ...], ...} with every class'
DESCRIPTORS = "descriptors"
LONGEST = 2000  # characters of a prompt; text towers read a few hundred
VERBS = ("has", "have", "often", "typically", "usually", "may", "can", "is", "are", "looks")


def read_prompts(path: pathlib.Path, class_names: Sequence[str], templates: Sequence[str]) -> Prompts:
    """The prompts of every class.

    A {} in a prompt stands for the class's name. A class may have {"descriptors": [...]} instead: see `described`.

    Args:
        templates: what descriptors are added to.

    Raises UsageError: the file is missing or no JSON of this form; a class is missing, is there twice or is none of the
    run's; a class has no prompts, or one of them is no text on one line."""
    found = by_class(read_object(path), path, class_names)
    return tuple(prompts_of(found[label], name, path, templates) for label, name in enumerate(class_names))


def read_object(path: pathlib.Path) -> dict:
    """The JSON object in a file, in which no name stands twice. Raises UsageError: there is none."""
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=without_doubles)
    except OSError as error:
        raise UsageError(FIELD, f"{path} ({error.strerror})", "a JSON file", "correct the path") from error
    except (ValueError, RecursionError) as error:  # the last: brackets without end
        told = "brackets without end" if isinstance(error, RecursionError) else str(error)[:200]
        raise UsageError(FIELD, f"{path} ({told})", FORM, "correct the file") from error
    if not isinstance(value, dict):
        raise UsageError(FIELD, f"{path} ({type(value).__name__})", FORM, "write an object, class by class")
    return value


def without_doubles(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON. Raises ValueError: a name stands in it twice, of which Python would take the last."""
    counts = collections.Counter(name for name, _ in pairs)
    double = [name for name, count in counts.items() if count > 1]
    if double:
        raise ValueError(f"twice: {listing(double)}")
    return dict(pairs)


def by_class(value: Mapping, path: pathlib.Path, class_names: Sequence[str]) -> dict[int, object]:
    """What the file has for each class's number; names may be spelled otherwise ("Sea_Hen" for "sea hen").

    Raises UsageError: names the classes that are missing, unknown or there twice."""
    if isinstance(value.get("prompts"), dict) and set(value) <= {"about", "prompts"} and "prompts" not in class_names:
        value = value["prompts"]
    known, exact, found, unknown = spellings(class_names), {name: n for n, name in enumerate(class_names)}, {}, []
    for name, prompts in value.items():
        label = exact.get(name, known.get(plain(name)))
        if label is None:
            unknown.append(name)
        elif label in found:
            raise UsageError(FIELD, f"{path} ({class_names[label]} in two spellings)", FORM, "take one out")
        else:
            found[label] = prompts
    missing = [name for label, name in enumerate(class_names) if label not in found]
    if missing or unknown:
        faults = [f"classes missing ({len(missing)}): {listing(missing)}"] if missing else []
        faults += [f"of no class ({len(unknown)}): {listing(unknown)}"] if unknown else []
        mend = "add those, or take these out" if missing and unknown else "add them" if missing else "take them out"
        raise UsageError(FIELD, f"{path} ({'; '.join(faults)})", f"the run's {len(class_names)} classes", mend)
    return found


def prompts_of(value: object, name: str, path: pathlib.Path, templates: Sequence[str]) -> tuple[str, ...]:
    """The prompts of a class, by what the file has for it. Raises UsageError: there are none, or one is no text."""
    is_described = isinstance(value, dict) and set(value) == {DESCRIPTORS}
    texts = value[DESCRIPTORS] if is_described else value
    if not isinstance(texts, list) or not texts:
        told = f"{path} ({name}: {reprlib.repr(value)})"
        allowed = 'one or more prompts in a list, or {"descriptors": [...]} with one or more'
        raise UsageError(FIELD, told, allowed, "write the class's prompts, or take the file's other classes as samples")
    for text in texts:
        check_text(text, name, path)
    if is_described:
        return described(name, texts, templates)
    return tuple(fill(text.strip(), name) for text in texts)


def check_text(text: object, name: str, path: pathlib.Path) -> None:
    """Raises UsageError: a prompt is no text on one line, is empty, or is longer than any text tower reads."""
    if not isinstance(text, str) or not text.strip():
        found, allowed = reprlib.repr(text), "texts that are not empty"
    elif not text.strip().isprintable():
        found, allowed = reprlib.repr(text), "texts on one line, without control characters"
    elif len(text) > LONGEST:
        found, allowed = f"a text of {len(text):,} characters", f"texts of at most {LONGEST:,} characters"
    else:
        return
    raise UsageError(FIELD, f"{path} ({name}: {found})", allowed, "correct this prompt")


def described(name: str, descriptors: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """A class's prompts by its descriptors: "a photo of a cat, which has whiskers.".

    Every descriptor with every template; first each descriptor once, with the templates in turn, so that the first
    images of a class show them all. Source: Menon & Vondrick, arXiv 2210.07183, section 3.1, whose texts "{class} which
    (is/has/etc) {descriptor}" are for classification.

    Raises UsageError: a template has not exactly one {}."""
    check_templates("synthesis.prompts", templates)
    count = len(templates)
    return tuple(
        f"{fill(templates[(place + shift) % count], name).rstrip(' .')}, {clause(descriptor)}."
        for shift in range(count)
        for place, descriptor in enumerate(descriptors)
    )


def clause(descriptor: str) -> str:
    """A descriptor as a relative clause: "is small" and "can fly" as they are, "a wet nose" as what the class has."""
    text = descriptor.strip().rstrip(".")
    return f"which {text}" if text.split()[0].lower() in VERBS else f"which has {text}"
