"""poc.html: the decision on one printed page, and after it everything that it rests on; from decision.json alone."""

from typing import Any

from cachefl_jax.poc import charts
from cachefl_jax.poc.answers import answers
from cachefl_jax.poc.glossary import glossary
from cachefl_jax.poc.tables import confusion, parts, table
from cachefl_jax.poc.varied import enough, left_out, moved, shots, work
from cachefl_jax.poc.wording import Decision, duration, joined, label
from cachefl_jax.report import units
from cachefl_jax.report.comparison import flat
from cachefl_jax.report.page import fill


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


def seeds(decision: Decision) -> dict[str, Any]:
    """How many there are, and the first, by which parts of the page are told alone."""
    found = decision.get("seeds") or [0]
    return {"count": len(found), "first": found[0]}


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
