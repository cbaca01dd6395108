"""Descriptions of a class as a language model, or a grammar, gives them: asked for, cleaned, and refused where unfit.

What a model answers is data from outside. A line of it becomes a prompt if it is plain text that names its class and no
other, that nothing would cut off, and that is unlike the ones before; whatever else it is, it is counted and dropped.

Axis letters: N classes, n texts, D features.
"""

import collections
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError

FIELD = "synthesis.language_model"
VERSION = 1  # of what is refused: raise it when the same answers come to give other prompts
LINES = 8  # descriptions that an answer is asked for
AT_ONCE = 4  # answers at most that are asked for together
TRIES = 4  # times as many answers as would do if every line were good
LONGEST, MOST_LINES = 300, 200  # characters of a line, and lines of an answer, that are looked at
LEAST_DISTANCE = 0.01  # 1 - cosine of text features, from the class's other prompts

Ask = Callable[[str, int, int], Sequence[str]]  # (class name, answers, seed) -> the answers, each of several lines

NUMBERED = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*\u2022\u2013\u2014])\s+")
QUOTES = " \t\"'\u2018\u2019\u201c\u201d\u00ab\u00bb\u201e*"
MARKUP = re.compile(r"[<>{}\[\]`\\|*_#^~=$@]|://|www\.|&\w+;")
TALK = re.compile(r"(?:I|I['\u2019]m|sorry|sure|certainly|of course|okay|here (?:are|is)|as an ai)\b", re.IGNORECASE)
# Scripts that put no space between words: a name counts wherever it stands.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


class Rules(NamedTuple):
    """What a line must be to become a prompt."""

    class_names: tuple[str, ...]
    fits: Callable[[str], bool]  # whether the text tower and the generator read the text to its end
    features: Callable[[Sequence[str]], np.ndarray] | None  # n texts to unit features [n, D]; None: as near as may be


class Described(NamedTuple):
    """A class's prompts, and how many lines were refused for what."""

    prompts: tuple[str, ...]
    refused: dict[str, int]


def describe(ask: Ask, name: str, rules: Rules, count: int, seed: int) -> Described:
    """Asks for descriptions of a class until there are `count` good ones, or it was asked often enough.

    The answers depend on the seed, the name and what was refused before, not on the other classes asked for.

    Raises UsageError: fewer than half as many are left; tells how many lines were refused for what."""
    found, refused = Found(name, rules), collections.Counter()
    needed = -(-count // LINES)
    asked = 0
    while len(found.prompts) < count and asked < TRIES * needed:
        answers = min(AT_ONCE, -(-(count - len(found.prompts)) // LINES), TRIES * needed - asked)
        for answer in ask(name, answers, seed_of(seed, name, asked)):
            lines = lines_of(answer)
            refused["no text"] += not lines
            refused.update(found.add(lines))
        asked += answers
    prompts, counts = tuple(found.prompts[:count]), {fault: times for fault, times in refused.items() if times}
    if len(prompts) < (count + 1) // 2:
        told = ", ".join(f"{times} {fault}" for fault, times in sorted(counts.items(), key=lambda pair: -pair[1]))
        value = f"{len(prompts)} of {count} descriptions of {name} in {asked} answers (refused: {told or 'none'})"
        mend = "name another model, ask for fewer by synthesis.descriptions, or write synthesis.prompts_file"
        raise UsageError(FIELD, value, f"a model that gives {(count + 1) // 2} or more", mend)
    return Described(prompts, counts)


def seed_of(seed: int, name: str, asked: int) -> int:
    """What an answer is drawn from, below 2**48."""
    digest = hashlib.sha256(f"{seed}\n{asked}\n{name}\ndescriptions".encode()).digest()
    return int.from_bytes(digest[:6], "big")


class Found:
    """The prompts of a class so far."""

    def __init__(self, name: str, rules: Rules):
        self.name, self.rules, self.prompts = name, rules, []
        self.named, self.known = classes_in(rules.class_names), set()
        self.features = np.zeros((0, 0))

    def add(self, lines: Sequence[str]) -> list[str]:
        """Takes what is fit of some lines, and tells for each of the others why it is not."""
        faults, fit = [], []
        for line in lines:
            text = cleaned(line)
            fault = self.fault(text)
            if fault:
                faults.append(fault)
            else:
                self.known.add(folded(text))
                fit.append(text)
        return faults + self.take(fit)

    def fault(self, text: str) -> str:
        """Why a text is no prompt of the class; "" where nothing is known against it."""
        own = folded(self.name)
        named = self.named(text)
        if any(unicodedata.category(letter).startswith("C") for letter in text):
            return "with control characters"
        if MARKUP.search(re.sub(re.escape(self.name), "", text, flags=re.IGNORECASE)):
            return "with markup"
        if own not in named:
            return "without the class's name"
        if named != {own}:
            return "with another class's name"
        if text.endswith((":", "?")) or TALK.match(text):
            return "that describe nothing"
        if len(text) > LONGEST or not self.rules.fits(text):
            return "too long for the text tower or the generator"
        return "said before" if folded(text) in self.known else ""

    def take(self, texts: Sequence[str]) -> list[str]:
        """Takes the texts that are far enough from the prompts before them."""
        if self.rules.features is None or not texts:
            self.prompts += texts
            return []
        faults = []
        for text, feature in zip(texts, np.asarray(self.rules.features(texts), np.float64), strict=True):
            if len(self.features) and (1 - self.features @ feature).min() < LEAST_DISTANCE:
                faults.append("with a text feature near another's")
                continue
            self.prompts.append(text)
            self.features = np.vstack([self.features.reshape(-1, len(feature)), feature])
        return faults


def lines_of(answer: str) -> list[str]:
    """The lines of an answer that are meant as descriptions: the numbered ones, where there are two or more."""
    lines = [line for line in answer[: LONGEST * MOST_LINES].splitlines() if line.strip()][:MOST_LINES]
    numbered = [line for line in lines if NUMBERED.match(line)]
    return numbered if len(numbered) > 1 else lines


def cleaned(line: str) -> str:
    """A line without its number, quotes and emphasis, on single spaces."""
    text = NUMBERED.sub("", unicodedata.normalize("NFC", line)).replace("**", "")
    return re.sub(r"[ \t\u00a0]+", " ", text).strip(QUOTES)


def folded(text: str) -> str:
    """The words of a text in lower case, without what stands between them."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFC", text.casefold()).replace("_", " ")))


def classes_in(class_names: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a text to the classes that it names as whole words, each as `folded`; a plural counts.

    Where a name is part of another's, the longer counts: "a fire truck" is no truck."""
    names = sorted({folded(name) for name in class_names} - {""}, key=len, reverse=True)
    spaced = "|".join(re.escape(name) for name in names if not UNSPACED.search(name))
    unspaced = "|".join(re.escape(name) for name in names if UNSPACED.search(name))
    kinds = [rf"(?<!\w)({spaced})(?:s|es)?(?!\w)" if spaced else r"(?!)()", f"({unspaced})" if unspaced else r"(?!)()"]
    pattern = re.compile("|".join(kinds))
    return lambda text: {match[1] or match[2] for match in pattern.finditer(folded(text))}
