"""The decision in sentences: is training together better than what the sites have, and by which row.

A row is recommended by its validation accuracy, so that the test images which judge it have not chosen it. Its
comparisons with each site alone, zero-shot CLIP, CacheFL and today's model are a family of their own (Holm).
"""

from typing import Any

from cachefl_jax.data.classes import plain
from cachefl_jax.poc.samples import reason
from cachefl_jax.report import units
from cachefl_jax.study.statistics import BETTER, EQUAL, WORSE

ALONE, POCKET = "local_only", "pocket"
Z = 1.96  # of a 95% interval by the normal distribution
DIGITS = {*"0123456789", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
KINDS = {BETTER: "better", EQUAL: "equal", WORSE: "worse"}
AGAINST = {
    BETTER: "better than",
    EQUAL: "no different within error from",
    WORSE: "worse than",
}


def recommended(rows: dict[str, dict[str, Any]], own: str) -> str:
    """The row with rounds of clients and server of the best mean validation accuracy; `own` where none has any."""
    federated = [name for name, row in rows.items() if row["regime"] == "federated"]
    scored = [name for name in federated if rows[name]["validation_accuracy"] is not None]
    return max(scored, key=lambda name: (rows[name]["validation_accuracy"], name == own), default=own)


def verdict(facts: dict[str, Any]) -> dict[str, Any]:
    """`verdict` of decision.json, from its other sections."""
    row, family = facts["recommended"], facts["family"]
    found, told = family.get(ALONE), {"caveat": caveat(facts), "more": more(facts)}
    if found is None or found["verdict"] not in KINDS:
        return {"sentence": "There is nothing to compare training together with.", "kind": None} | told
    return {"sentence": first(facts, row, found), "kind": KINDS[found["verdict"]]} | told


def caveat(facts: dict[str, Any]) -> list[str]:
    """What the verdict hangs on where the encoder does not know the images: it is then about the encoder."""
    data, told = facts["data"], []
    pocket = facts["config"]["clip"]["checkpoint"] == POCKET and not all(map(is_digit, data["class_names"]))
    if pocket:
        told.append("The encoder is the embedded pocket CLIP, which has learnt digits and nothing else.")
    row, chance = facts["rows"].get("zero_shot"), 1 / data["classes"]
    if row and row["test_accuracy"] - Z * row["error"] <= chance:
        told.append(
            f"Zero-shot, the encoder has {units.percent(row['test_accuracy'])} ± {100 * Z * row['error']:.1f} of the "
            f"test images right, within its error no more than guessing among {data['classes']} classes "
            f"({units.percent(chance)})."
        )
    if not told:
        return []
    first = "So this verdict is about this encoder, and not about whether training together is worth it."
    what = "a released CLIP" if pocket else "an encoder that knows such images"
    return [
        *told,
        first,
        f"Before you decide, bring {what} by --config.clip.checkpoint=DIR, and a new folder for --workdir.",
    ]


def is_digit(name: str) -> bool:
    """Whether a class is a digit, as a figure or as a word."""
    return plain(name).removeprefix("digit") in DIGITS


def first(facts: dict[str, Any], row: str, found: dict[str, Any]) -> str:
    """Training together against each site alone, with the error."""
    rows = facts["rows"]
    ours, theirs = (units.percent(rows[name]["test_accuracy"]) for name in (row, ALONE))
    error = f"{abs(found['points']):.1f} ± {found['half']:.1f} points"
    images = f"{facts['data']['test']:,} test images, {len(facts['seeds'])} seeds, 95% interval"
    if found["verdict"] == EQUAL:
        told = f"no better than each site alone within error: {ours} against {theirs}, a difference of "
        told += f"{found['points']:+.1f} ± {found['half']:.1f} points"
    else:
        word = "better" if found["verdict"] == BETTER else "worse"
        told = f"{word} than each site alone by {error}: {ours} against {theirs}"
    return f"Training together ({rows[row]['label']}) is {told} ({images})."


def more(facts: dict[str, Any]) -> list[str]:
    """What else a decision needs to know of accuracy."""
    rows, row = facts["rows"], facts["recommended"]
    label, lines = rows[row]["label"], []
    for name, found in facts["family"].items():
        if name != ALONE and found["verdict"] in AGAINST:
            other = facts["current"]["label"] if name == "current" else rows[name]["label"]
            lines.append(f"{units.sentence(label)} is {against(found, other)}.")
    losing = [site["name"] for site in facts["sites"] if site["gain"]["verdict"] == WORSE]
    gaining = [site["name"] for site in facts["sites"] if site["gain"]["verdict"] == BETTER]
    told = f"beyond error: {named(gaining)}; that lose: {named(losing)}"
    lines.append(f"Sites that gain on their own test images {told}.")
    return lines


def against(found: dict[str, Any], other: str) -> str:
    """better than OTHER by so much, with the error."""
    told = f"{found['points']:+.1f} ± {found['half']:.1f} points"
    if why := reason(found):
        told += f"; {why}"
    return f"{AGAINST[found['verdict']]} {other} ({told})"


def named(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
