"""The tables of rows, of sites and of classes, and what is taken for what."""

from collections.abc import Mapping
from typing import Any

from cachefl_jax.poc.verdict import ALONE
from cachefl_jax.poc.wording import Decision, accuracy, judged, label, signed
from cachefl_jax.report import units
from cachefl_jax.study.statistics import BETTER, WORSE

SHOWN = ("zero_shot", ALONE)  # beside the recommended row, of sites and classes
MOST_CLASSES = 25  # of a confusion matrix that is shown whole
MOST_PAIRS = 20
REGIMES = {"centralized": "all data in one place"}


def table(decision: Decision) -> list[dict[str, Any]]:
    """A line of the table of rows each, the best first."""
    rivals = (decision.get("current") or {}).get("against") or {}
    ranked = sorted(decision["rows"].items(), key=lambda item: -(item[1].get("test_accuracy") or 0))
    return [
        {
            "label": row["label"], "main": name == decision["recommended"], "how": how(row),
            "mark": "recommended" if decision["verdict"]["kind"] == "better" else "best on validation of those that "
            "send no image and no image's feature",
            "accuracy": accuracy(row.get("test_accuracy"), row.get("error")),
            "validation": units.percent(row.get("validation_accuracy")),
            "alone": signed(row.get("against_alone")), "verdict": judged(row.get("against_alone")),
            "current": signed(rivals.get(name)),
            "up": units.readable_bytes(row.get("uplink_bytes_per_client_round")),
            "all": units.readable_bytes(row.get("total_bytes")), "rounds": units.integer(row.get("rounds")),
            "tried": units.integer(row.get("tried")),
        }
        for name, row in ranked
    ]  # fmt: skip


def how(row: Mapping[str, Any]) -> str:
    """The regime and the chosen values of a row."""
    values = ", ".join(f"{field}={value}" for field, value in (row.get("values") or {}).items())
    regime = REGIMES.get(row.get("regime"), "")
    return "; ".join(part for part in (regime, values) if part)


def parts(decision: Decision, section: str, what: str) -> dict[str, Any] | None:
    """Who gains and who loses: a line a site, or a class."""
    found = decision.get(section)
    if not found:
        return None
    names = [name for name in dict.fromkeys((*SHOWN, decision["own"], decision["recommended"]))
             if any(each["rows"].get(name) is not None for each in found)]  # fmt: skip
    most = max([abs(each["gain"]["points"]) for each in found if is_told(each["gain"])], default=0)
    lines = [
        {"name": each["name"], "counts": [units.integer(each.get("train")), units.integer(each.get("test"))],
         "cells": [units.percent(each["rows"].get(name)) for name in names], "gain": signed(each["gain"]),
         "verdict": judged(each["gain"]), "heat": heat(each["gain"], most)}
        for each in found
    ]  # fmt: skip
    return {"what": what, "heads": [label(decision, name) for name in names], "lines": lines}


def is_told(gain: Mapping[str, Any]) -> bool:
    """Whether a difference is more than chance."""
    return gain.get("verdict") in (BETTER, WORSE)


def heat(gain: Mapping[str, Any], most: float) -> str:
    """The colour of a difference beyond error, the deeper the larger: blue a gain, orange a loss."""
    if not is_told(gain) or not most:
        return "transparent"
    return tinted("blue" if gain["points"] > 0 else "orange", abs(gain["points"]) / most)


def tinted(colour: str, share: float) -> str:
    """A colour of the page, faint enough that text stays readable on it."""
    return f"color-mix(in srgb, var(--{colour}) {45 * share:.0f}%, transparent)"


def confusion(decision: Decision) -> dict[str, Any] | None:
    """The matrix, or of many classes the pairs that are taken for one another most often."""
    found = decision.get("confusion")
    if not found:
        return None
    counts, names = found["counts"], [each["name"] for each in decision.get("classes") or ()]
    names = names or [str(number) for number in range(len(counts))]
    told = {"label": label(decision, found["row"]), "names": names, "matrix": None, "pairs": None}
    if len(counts) <= MOST_CLASSES:
        return told | {"matrix": [(names[true], cells(line, true)) for true, line in enumerate(counts)]}
    wrong = [(count, names[true], names[taken]) for true, line in enumerate(counts) for taken, count in enumerate(line)
             if count and true != taken]  # fmt: skip
    return told | {"pairs": sorted(wrong, key=lambda pair: (-pair[0], *pair[1:]))[:MOST_PAIRS]}


def cells(line: list[int], true: int) -> list[tuple[str, str]]:
    """(count, colour) of a class's images by what they were taken for."""
    whole = max(sum(line), 1)
    return [(str(count) if count else "", tinted("blue" if taken == true else "orange", count / whole))
            for taken, count in enumerate(line)]  # fmt: skip
