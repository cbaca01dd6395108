"""The four questions of the first page, each with its figure."""

from collections.abc import Mapping
from typing import Any

from cachefl_jax.poc.verdict import ALONE
from cachefl_jax.poc.wording import Decision, duration, signed, ways_of
from cachefl_jax.report import units


def answers(decision: Decision) -> list[tuple[str, str, str]]:
    """(question, figure, what is to know of it): what the first page has to answer."""
    return [gain(decision), sent(decision), labour(decision), private(decision)]


def gain(decision: Decision) -> tuple[str, str, str]:
    row, alone = decision["rows"][decision["recommended"]], decision["rows"].get(ALONE)
    found = row.get("against_alone")
    if alone is None or signed(found) == units.EMPTY:
        return "How accurate?", units.percent(row.get("test_accuracy")), f"{row['label']}; no site by itself was run."
    ours, theirs = (units.percent(each.get("test_accuracy")) for each in (row, alone))
    return "Better than each site alone?", f"{signed(found)} points", (
        f"{ours} of {decision['data']['test']:,} test images right, against {theirs}: "
        f"{found['verdict']}, by {row['label']}."
    )  # fmt: skip


def sent(decision: Decision) -> tuple[str, str, str]:
    question, ways = "How much does a site send?", ways_of(decision)
    way = ways.get(decision["recommended"])
    if way is None:
        return question, "not counted", "The recommended row has no bytes of its own."
    seconds = ((decision.get("uplinks") or {}).get("seconds") or {}).get(way["name"]) or {}
    told = f"in the whole run, {units.readable_bytes(way['all'])} of all sites both ways"
    if "images_once" in ways:
        told += f"; their training images once would be {units.readable_bytes(ways['images_once']['all'])}"
    if "office" in seconds:
        told += f". Behind ADSL its line is busy for {duration(seconds['office'])}"
    return question, units.readable_bytes(way["up"]), f"{told}."


def labour(decision: Decision) -> tuple[str, str, str]:
    question, machines = "How much work at a site?", (decision.get("work") or {}).get("machines") or []
    if not machines:
        return question, "not measured", "Nothing was timed."
    told = [(machine["name"], total(machine), machine["kind"]) for machine in machines]
    known = [each for each in told if each[1] is not None]
    if not known:
        return question, "not known", "The encoder is not known here, so encoding has no operations."
    (name, seconds, kind), *others = known
    text = f"on {name}, encoding and training ({kind})"
    if others:
        text += "; " + "; ".join(f"{other} {duration(more)} ({how})" for other, more, how in others[:2])
    return question, duration(seconds), f"{text}."


def total(machine: Mapping[str, Any]) -> float | None:
    """Seconds of encoding and training; None where either is not known."""
    parts = machine["encoding_seconds"], machine["training_seconds"]
    return None if None in parts else sum(parts)


def private(decision: Decision) -> tuple[str, str, str]:
    headline = (decision.get("privacy") or {}).get("headline")
    if not headline:
        return "Is it private?", "not told", ""
    first, _, rest = headline.rstrip(".").partition("; ")
    return "Is it private?", f"{first}.", f"{units.sentence(rest)}." if rest else ""
