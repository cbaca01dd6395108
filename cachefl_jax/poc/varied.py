"""What other rounds, sites, images, lines and machines would change."""

from typing import Any

from cachefl_jax.poc.wording import NO_BREAK, Decision, duration, joined, label, ways_of
from cachefl_jax.report import units


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
