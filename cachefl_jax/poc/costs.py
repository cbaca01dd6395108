"""What a run moves over the sites' lines, beside four other ways to the same end, and how long that takes.

Bytes are counted from arrays' shapes and from files' sizes, without a network's own headers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.report import units

FLOAT = LABEL = 4  # bytes of a number, and of an image's label
PROBE, ONCE = "linear_probe", "features_once"
# Medians of cachefl_jax.clock.presets; docs/sites.md has the sources of what is measured.
LINES = (
    ("office", "office behind ADSL", "up 1 Mbit/s, assumed; down 12 Mbit/s, FCC 2015"),
    ("phone", "mobile line", "up 11 and down 36 Mbit/s, Ookla 2020"),
    ("hospital", "hospital's line", "500 Mbit/s both ways, assumed"),
)


class Facts(NamedTuple):
    """What bytes are reckoned from."""

    rows: Mapping[str, Mapping[str, Any]]  # `rows` of decision.json
    recommended: str  # of these
    own: str
    sites: Sequence[Mapping[str, Any]]  # C of them, each with name, train (images) and image_bytes (None: not known)
    classes: int  # N
    width: int  # D, numbers of a feature
    model: Mapping[str, Any] | None  # `whole_model` of summary.json; None for a bank


class Way(NamedTuple):
    """A way to do it; up and down are of the site that moves most, in the whole run."""

    name: str
    label: str
    up: float
    down: float
    all: float  # of all sites, both ways
    exchanges: int  # how often a site waits for its line there and back
    how: str  # what is counted


def costs(facts: Facts) -> dict[str, Any]:
    """`bytes` and `uplinks` of decision.json: ways, lines, seconds by way and line, and what to conclude."""
    ways = ways_of(facts)
    return {
        "bytes": {"ways": [way._asdict() for way in ways], "sentences": sentences(facts, ways)},
        "uplinks": {
            "lines": [{"name": name, "label": label, "source": source} for name, label, source in LINES],
            "seconds": {way.name: {name: seconds(way, name) for name, *_ in LINES} for way in ways},
        },
    }


def seconds(way: Way, line: str) -> float:
    """Of the site that moves most: its bytes by the line's median rates, and the line's latency at every exchange."""
    rates = {name: PRESETS[line][name]["median"] for name in ("uplink", "downlink", "latency")}
    moving = 8 * way.up / rates["uplink"] + 8 * way.down / rates["downlink"]
    return moving + 2 * way.exchanges * rates["latency"]


def ways_of(facts: Facts) -> list[Way]:
    """The run's own row, the recommended one, and the alternatives that can be counted here."""
    chosen = dict.fromkeys((facts.own, facts.recommended))
    ways = [way for name in chosen if (way := row_way(facts, name)) is not None]
    others = [*model_ways(facts), *(way for way in once_ways(facts) if way.name not in chosen)]
    if PROBE not in chosen:
        others.append(row_way(facts, PROBE) or probe_way(facts))
    return ways + others


def row_way(facts: Facts, name: str) -> Way | None:
    """A row as it ran; None where it did not, or sent nothing."""
    row = facts.rows.get(name)
    if row is None or not row.get("total_bytes"):
        return None
    up, down = (row.get(f"{way}link_bytes_per_client_round") or 0 for way in ("up", "down"))
    everything, rounds = row["total_bytes"], round(row.get("rounds") or 1)
    # How often a site sends, on average. A row that sends once may train for many rounds after it.
    times = everything / ((up + down) * len(facts.sites))
    exchanges = max(round(times), 1)
    how = "sent once, as counted" if exchanges == 1 else f"{exchanges} rounds, as counted"
    if 1 < exchanges < rounds:
        how = f"{exchanges} of {rounds} rounds, in which a site takes part on average"
    return Way(name, row["label"], up * times, down * times, everything, exchanges, how)


def rounds_of(facts: Facts) -> int:
    """Those of the run's own row, of which the alternatives get as many."""
    return round((facts.rows.get(facts.own) or {}).get("rounds") or 1)


def probe_way(facts: Facts) -> Way:
    """A linear probe that was not run: a weight vector a class each way each round."""
    size, rounds = FLOAT * facts.classes * facts.width * rounds_of(facts), rounds_of(facts)
    how = f"{rounds} rounds of {facts.classes} x {facts.width} numbers; not run here"
    return Way(PROBE, "linear probe", size, size, 2 * size * len(facts.sites), rounds, how)


def model_ways(facts: Facts) -> list[Way]:
    """All weights of the encoder each way, each round and once; none where the encoder is not known."""
    if not facts.model:
        return []
    size, clients = facts.model["bytes"], len(facts.sites)
    name, rounds = facts.model.get("name", "model"), rounds_of(facts)
    every = f"all weights each way, {rounds} rounds"
    return [
        Way("whole_model", f"the whole {name}, every round", size * rounds, size * rounds, 2 * size * rounds * clients,
            rounds, every),
        Way("whole_model_once", f"the whole {name}, once", size, size, 2 * size * clients, 1, "all weights each way"),
    ]  # fmt: skip


def once_ways(facts: Facts) -> list[Way]:
    """Every training image's feature, and its file, sent once; a linear head comes back."""
    head, clients = FLOAT * facts.classes * facts.width, len(facts.sites)
    features = [site["train"] * (FLOAT * facts.width + LABEL) for site in facts.sites]
    files = [site.get("image_bytes") for site in facts.sites]
    ways = [(ONCE, "features sent once", features, f"{facts.width} numbers and a label an image")]
    if None not in files:
        ways.append(("images_once", "images once", files, "the training files as they lie on disk"))
    return [
        Way(name, label, max(sent), head, sum(sent) + head * clients, 1, f"{what}; a linear head comes back{more}")
        for name, label, sent, what in ways
        for more in [ran_once(facts) if name == ONCE else ""]
    ]


def ran_once(facts: Facts) -> str:
    """What the row of this name, which ran, moved otherwise."""
    counted = (facts.rows.get(ONCE) or {}).get("total_bytes")
    if not counted:
        return ""
    return f"; the row of this name sends back the method's whole model, {units.readable_bytes(counted)} in all"


def sentences(facts: Facts, ways: Sequence[Way]) -> list[str]:
    """Where the rounds move fewer bytes than an alternative, where more, and what is not in them."""
    by_name = {way.name: way for way in ways}
    told, chosen = [], dict.fromkeys((facts.recommended, facts.own))
    ours = [by_name[name] for name in chosen if name in by_name]
    if not ours:
        return ["No row with bytes of its own was run."]
    for main in ours:
        others = ("images_once", ONCE, "whole_model")
        told += [against(main, by_name[name]) for name in others if name in by_name and name not in chosen]
        if "images_once" in by_name and by_name["images_once"].all < main.all:
            told.append(f"Bytes do not speak for {main.label} here. What may is that images stay at the sites.")
    if facts.model:
        size = units.readable_bytes(facts.model["bytes"])
        told.append(f"Not in these bytes: each site needs the encoder once ({size}) for every way but images once.")
    return told


def against(main: Way, other: Way) -> str:
    """Bytes of all sites, compared."""
    ours, theirs = units.readable_bytes(main.all), units.readable_bytes(other.all)
    first = f"{units.sentence(main.label)} moves {ours} in all; {other.label} would take {theirs}"
    if units.three_digits(main.all / other.all) == units.three_digits(1):
        return f"{first}: as much."
    more = main.all > other.all
    ratio = main.all / other.all if more else other.all / main.all
    return f"{first}: {units.three_digits(ratio)} times {'more' if more else 'less'}."
