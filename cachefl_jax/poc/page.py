"""poc.html: the decision on one printed page, and after it everything that it rests on; from decision.json alone."""

import re
from collections.abc import Mapping
from typing import Any

from cachefl_jax.poc import charts
from cachefl_jax.poc.glossary import glossary
from cachefl_jax.poc.samples import reason
from cachefl_jax.report import units
from cachefl_jax.report.comparison import flat
from cachefl_jax.report.page import fill
from cachefl_jax.study.statistics import BETTER, WORSE

Decision = Mapping[str, Any]
ALONE = "local_only"
SHOWN = ("zero_shot", ALONE)  # beside the recommended row, of sites and classes
MOST_CLASSES = 25  # of a confusion matrix that is shown whole
MOST_PAIRS = 20
SHORTEST = 1e-4  # seconds that are told in figures
NO_BREAK, MINUS = "\u00a0", "\u2212"  # between a number and its unit; the sign
REGIMES = {"centralized": "all data in one place"}


def render(decision: Decision) -> str:
    """The page as HTML, the same for the same decision. Sections that were not computed are left out."""
    verdict = decision["verdict"]
    return fill(
        "poc", name=decision.get("name") or "proof of concept", title=joined(verdict["sentence"]), kind=verdict["kind"],
        caveat=list(map(joined, verdict.get("caveat") or ())), more=list(map(joined, verdict["more"])),
        answers=answers(decision), charts=charts.drawn(decision), rows=table(decision),
        sites=parts(decision, "sites", "site"), classes=parts(decision, "classes", "class"),
        confusion=confusion(decision), left_out=left_out(decision), shots=shots(decision), moved=moved(decision),
        work=work(decision), lists=lists(decision), facts=facts(decision),
        notes=decision["data"].get("notes") or (), rounds=enough(decision), repeat=decision.get("repeat"),
        versions=decision.get("versions"),
        current=(decision.get("current") or {}).get("label"),
        glossary=glossary(decision), seeds=seeds(decision), best=label(decision, decision["recommended"]),
        provenance=(decision.get("provenance") or {}).get("rows", ()), config=flat(decision["config"]).items(),
    )  # fmt: skip


def joined(text: str) -> str:
    """A text for the page: its minus signs are such, and no line ends between a number and its error."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, text).replace(" ± ", f"{NO_BREAK}±{NO_BREAK}")


def seeds(decision: Decision) -> dict[str, Any]:
    """How many there are, and the first, by which parts of the page are told alone."""
    found = decision.get("seeds") or [0]
    return {"count": len(found), "first": found[0]}


def label(decision: Decision, name: str) -> str:
    """What a row is called."""
    return (decision["rows"].get(name) or {}).get("label", name)


def duration(seconds: float | None) -> str:
    """ "42.0 s", "12.3 min", "4.1 h"; a dash where it is not known."""
    if seconds is None:
        return units.EMPTY
    if 0 < seconds < SHORTEST:
        return f"under {units.readable_seconds(SHORTEST)}"
    if seconds < 120:
        return units.readable_seconds(seconds)
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def signed(gain: Mapping[str, Any] | None) -> str:
    """Points with their 95% interval, "+1.2 ± 2.6"; a dash where there are none."""
    if not gain or gain.get("points") is None:
        return units.EMPTY
    half = gain.get("half")
    return joined(f"{round(gain['points'], 1) + 0.0:+.1f}" + ("" if half is None else f" ± {half:.1f}"))


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


def ways_of(decision: Decision) -> dict[str, Mapping[str, Any]]:
    return {way["name"]: way for way in (decision.get("bytes") or {}).get("ways", ())}


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


def judged(gain: Mapping[str, Any] | None) -> str:
    """A verdict, and where the interval seems to contradict it why it stands."""
    if not gain:
        return ""
    return "; ".join(part for part in (gain.get("verdict") or "", reason(gain)) if part)


def how(row: Mapping[str, Any]) -> str:
    """The regime and the chosen values of a row."""
    values = ", ".join(f"{field}={value}" for field, value in (row.get("values") or {}).items())
    regime = REGIMES.get(row.get("regime"), "")
    return "; ".join(part for part in (regime, values) if part)


def accuracy(share: float | None, error: float | None) -> str:
    """ "81.2% ± 1.1", half of the 95% interval from the standard error."""
    interval = "" if None in (share, error) else f" ± {charts.Z * 100 * error:.1f}"
    return joined(units.percent(share) + interval)


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


def enough(decision: Decision) -> dict[str, Any] | None:
    """How many rounds are enough, of which row, and by which rule."""
    found = decision.get("rounds")
    if not found:
        return None
    row, enough, other = found.get("row", decision["own"]), found.get("enough"), found.get("recommended")
    settled, whose = found.get("settled", True), label(decision, row)
    told = f"{enough} {'round' if enough == 1 else 'rounds'}" if settled else f"Not settled within {found['of']} rounds"
    rule = found.get("rule") or ""
    lines = [f"Of {whose}, by {rule}." if rule else f"Of {whose}."]
    if not settled:
        lines.append(
            "Accuracy still moved at the end by more than its error: more rounds, or a smaller rate, may help."
        )
    if other:
        count = round(other["rounds"] or 0)
        lines.append(f"The row that is best on validation, {other['label']}, takes {count} "
                     f"{'round' if count == 1 else 'rounds'}: nothing of this holds for it.")  # fmt: skip
    lines.append(f"By seed {found.get('seed', 0)} alone, so the end need not be the mean in the table of rows.")
    return {"told": None if enough is None else told, "lines": lines}


def left_out(decision: Decision) -> list[list[str]]:
    """A line a site: accuracy of the others' and of its own test images, with it and without it."""
    lines = []
    for each in decision.get("left_out") or ():
        line = [each["site"]]
        for whose in ("others", "own"):
            with_it, without = each["with"].get(whose), each["without"].get(whose)
            lost = None if None in (with_it, without) else without - with_it
            line += [units.percent(with_it), units.percent(without), joined(units.points(lost))]
        lines.append(line)
    return lines


def shots(decision: Decision) -> dict[str, Any] | None:
    """The learning curve as a table."""
    found = decision.get("shots")
    if not found:
        return None
    lines, whole = [], found.get("all") or {}
    for name, means in found["rows"].items():
        spread = (found.get("std") or {}).get(name) or [None] * len(means)
        told = [units.percent(mean) + ("" if None in (mean, std) else f" ± {100 * std:.1f}")
                for mean, std in zip(means, spread, strict=True)]  # fmt: skip
        lines.append([label(decision, name), *told, *([units.percent(whole.get(name))] if whole else [])])
    head = ["row", *(f"{count}" for count in found["shots"]), *(["all"] if whole else [])]
    return {"head": head, "lines": lines, "spread": bool(found.get("std"))}


def moved(decision: Decision) -> dict[str, Any] | None:
    """Bytes of each way, and seconds on each line."""
    ways = ways_of(decision)
    if not ways:
        return None
    lines, seconds = decision["uplinks"]["lines"], decision["uplinks"]["seconds"]
    rows = [
        [way["label"], *(units.readable_bytes(way[name]) for name in ("up", "down", "all")),
         *(duration(seconds[name][line["name"]]) for line in lines), way["how"]]
        for name, way in ways.items()
    ]  # fmt: skip
    rows = [[first, *(cell.replace(" ", NO_BREAK) for cell in cells), last] for first, *cells, last in rows]
    return {"head": ["way", "up, largest site", "down", "all sites", *(line["label"] for line in lines), "counted"],
            "rows": rows, "lines": lines, "sentences": decision["bytes"]["sentences"]}  # fmt: skip


def work(decision: Decision) -> dict[str, Any] | None:
    """Encoding and training on each class of machines."""
    found = decision.get("work")
    if not found:
        return None
    fits = {True: "yes", False: "no", None: units.EMPTY}
    rows = [
        [each["name"], duration(each["encoding_seconds"]), duration(each["training_seconds"]), fits[each.get("fits")],
         f"{each['kind']}: {each['source']}"]
        for each in found["machines"]
    ]  # fmt: skip
    return {"rows": rows, "sentences": found["sentences"]}


def lists(decision: Decision) -> list[tuple[str, list[str]]]:
    """(heading, sentences) of what is told in words alone."""
    generation = decision.get("generation") or {}
    privacy = decision.get("privacy") or {}
    found = [
        ("What the server's images cost", generation.get("sentences")),
        ("Privacy, by what happened in this run", privacy.get("sentences")),
        ("How settings were chosen", [decision["choice"]] if decision.get("choice") else None),
        ("What was not tested", decision.get("untested")),
    ]
    return [(heading, sentences) for heading, sentences in found if sentences]


def facts(decision: Decision) -> list[tuple[str, str]]:
    """What the data are."""
    data, seeds, seconds = decision["data"], decision.get("seeds"), decision.get("seconds")
    names = {"train": "training images", "validation": "validation images", "test": "test images"}
    told = [(names.get(what, what), counted(data.get(what)))
            for what in ("sites", "classes", "train", "validation", "test")]  # fmt: skip
    if data.get("layout"):
        told.append(("layout", str(data["layout"])))
    took = sum(seconds.values()) if seconds else None
    return [*told, ("seeds", units.integer(len(seeds) if seeds else None)), ("time it took", duration(took))]


def counted(value: int | list | None) -> str:
    """A number, or how many names a list has."""
    return units.integer(len(value) if isinstance(value, (list, tuple)) else value)
