"""A small grammar that describes a class where there is no language model to ask: the embedded demo's, and any other's.

It knows nothing of a class but its name. What it varies is fixed: for rendered type the words that the pocket generator
has learnt (`experiments.pretrain.rendered_type`), for photographs place, light, angle, style and state.
"""

import re
from typing import NamedTuple

import numpy as np


class Grammar(NamedTuple):
    """What a description is put together from."""

    form: str  # with {name} and the parts, each in braces
    parts: dict[str, tuple[str, ...]]


TYPE = Grammar(
    "{frame} {style} {noun} {name}{end}",
    {
        "frame": ("a photo of the", "a picture of the", "an image of the", "the", ""),
        "style": ("", "bold", "thin", "slanted", "serif", "typewriter", "blurred"),
        "noun": ("digit", "number"),
        "end": (".",),
    },
)
PHOTOGRAPHS = Grammar(
    "a {style} of a {state} {name} {place}, {light}, {angle}.",
    {
        "style": ("photo", "close photo", "snapshot", "professional photo", "film photo", "phone photo"),
        "state": ("", "", "small", "large", "young", "old", "clean", "dirty", "wet", "partly hidden"),
        "place": (
            *("outdoors", "indoors", "in a city", "in the countryside", "near water", "in front of a plain wall"),
            *("in front of trees", "in a busy scene", "with a blurred background"),
        ),
        "light": ("in bright sunlight", "on an overcast day", "in the shade", "at dusk", "at night", "in soft light"),
        "angle": ("from the front", "from the side", "from behind", "from above", "from below", "from far away"),
    },
)


def descriptions(grammar: Grammar, name: str, count: int, seed: int) -> list[str]:
    """`count` descriptions of a class; of each part every choice comes as often as every other, up to one time."""
    rng = np.random.default_rng(seed)
    columns = {part: shuffled(choices, count, rng) for part, choices in grammar.parts.items()}
    spoken = name.replace("_", " ")
    return [
        tidied(grammar.form, {part: column[row] for part, column in columns.items()} | {"name": spoken})
        for row in range(count)
    ]


def shuffled(choices: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """`count` of the choices: all of them in a random order, then all in another."""
    rounds = [rng.permutation(len(choices)) for _ in range(-(-count // len(choices)))]
    return [choices[place] for place in np.concatenate(rounds)[:count]]


def tidied(form: str, words: dict[str, str]) -> str:
    """The form with its words in, the spaces of empty ones taken out, and "an" where a vowel follows."""
    text = re.sub(r"\{(\w+)\}", lambda match: words[match[1]], form)
    text = re.sub(r"\s+", " ", text).strip().replace(" .", ".")
    return re.sub(r"\b(a)(?= [aeio])", "an", text)
