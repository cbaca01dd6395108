"""What left the sites, and what protects it: sentences by what happened in this run, never a fixed text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.config.secure import SECURE
from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.report import units

GENERATED, REAL, UNKNOWN = "generated", "real", "unknown"  # poc.synthetic_origin
ORIGINS = {
    GENERATED: "The server's images were brought along and are said to be generated (poc.synthetic_origin); this run "
    "did not see them drawn.",
    REAL: "The server's images were brought along and are said to be real public images (poc.synthetic_origin): none "
    "is generated. Whose they are, this run cannot tell.",
    UNKNOWN: "The server's images were brought along; whether they were drawn or are real is not known "
    "(poc.synthetic_origin says nothing of it).",
}
PLAIN, OWN = "as the run trains", "this run as it is"  # cases of an audit: `simulation.leak_parts`


class Facts(NamedTuple):
    """What privacy is told from."""

    config: Mapping[str, Any]  # the run's, nested: config.to_dict()
    entries: Mapping[str, Mapping[str, Any]]  # summary.json's methods: label, privacy, guarantee, epsilon, delta
    recommended: str
    own: str
    inversion: Mapping[str, Any] | None = None  # part "inversion" of audit.json; None: no audit


class Choice(NamedTuple):
    """What settings were chosen on."""

    validation: int  # rows
    points: int  # tried of the row of which most were
    test: int  # rows


def privacy(facts: Facts) -> dict[str, Any]:
    """`privacy` of decision.json: headline, and all sentences."""
    sentences = [server_set(facts.config), *sent(facts), noise(facts), sums(facts), leak(facts)]
    return {"headline": headline(facts), "sentences": sentences}


def real_images(synthesis: Mapping[str, Any]) -> int:
    """Real images of the sites a class in the server's set."""
    if synthesis["source"] == "held_out":
        return synthesis["images_per_class"]
    return synthesis.get("real_images", 0)


def server_set(config: Mapping[str, Any]) -> str:
    """Whose images the server's set is of."""
    synthesis = config["synthesis"]
    source, count = synthesis["source"], real_images(synthesis)
    if source == "bank":
        return (
            "This run saw features, not images: whose images the server's features come from, the bank's maker knows."
        )
    if source == "held_out":
        return (
            f"The server's set holds real images of the sites: {count} of every class left them for it, and their "
            "features go to every site. None of the set is generated."
        )
    others = (
        "The server's images were drawn by a generator from words: no site gave an image for them."
        if source in DRAWN
        else ORIGINS[(config.get("poc") or {}).get("synthetic_origin", UNKNOWN)]
    )
    if not count:
        return others
    return (
        f"The server's set holds real images of the sites: {count} of every class left them for it, and their features "
        f"go to every site. Of the rest: {others}"
    )


def sent(facts: Facts) -> list[str]:
    """What a site sends by the recommended row and by the run's own, in the methods' words."""
    told = []
    for name in dict.fromkeys((facts.recommended, facts.own)):
        entry = facts.entries.get(name) or {}
        words = entry.get("privacy") or "What a site's update tells of its images is not known of this method."
        told.append(f"{units.sentence(label_of(facts, name))}: {words}")
    return told


def noise(facts: Facts) -> str:
    """Differential privacy of the recommended row, or that there is none."""
    if facts.config["privacy"]["mechanism"] == "none":
        return "No differential privacy: no noise was added, and nothing bounds what is sent tells of a single image."
    entry = facts.entries.get(facts.recommended) or {}
    if not entry.get("guarantee"):
        return "The run is set up for differential privacy, but the recommended row has no guarantee."
    return entry["guarantee"]


def summed(facts: Facts) -> bool:
    """Whether the server sees sums of the clients' updates alone."""
    return facts.config["aggregation"]["name"] in SECURE


def sums(facts: Facts) -> str:
    if summed(facts):
        return "Secure sums: the server sees the sum of a round's updates, not a single site's."
    return "No secure sums: the server sees what each site sends."


def leak(facts: Facts) -> str:
    """What an audit read from updates of the run's own method, or that none did."""
    cases = (facts.inversion or {}).get("cases", ())
    found = [case for label in (OWN, PLAIN) for case in cases if case["update"] == label]
    if not found:
        return (
            "What updates give away was not measured; cachefl audit --workdir=DIR --parts=inversion attacks those of a "
            "finished run."
        )
    case = min((each for each in found if each["update"] == found[0]["update"]), key=lambda each: each["rows"])
    rows = "1 row" if case["rows"] == 1 else f"{case['rows']} rows"
    cosine, label = case["cosine"], label_of(facts, facts.own)
    others = ""
    if facts.recommended != facts.own:
        others = f" That is of {label}'s updates; what those of {label_of(facts, facts.recommended)} give away was not "
        others += "measured."
    return (
        f"Measured leak of {label}, from an update of {rows} ({case['update']}): |cos| of the features found to the "
        f"true ones {cosine['mean']:.2f} ({cosine['low']:.2f} to {cosine['high']:.2f}), "
        f"{case['cosine_by_chance']:.2f} by chance; {case['named_rows']['mean']:.0%} of the rows named, "
        f"{case['exact_classes']['mean']:.0%} of the sites' classes named exactly. Another attack may find more."
        + others
    )


def label_of(facts: Facts, row: str) -> str:
    """What a row is called on this page."""
    return (facts.entries.get(row) or {}).get("label", row).removesuffix(" (ours)")


def headline(facts: Facts) -> str:
    """The one sentence of the first page, on the recommended row; audits are of the run's own."""
    synthesis = facts.config["synthesis"]
    real = real_images(synthesis)
    told = [f"{real} real images a class leave the sites" if real else "Training images stay at the sites"]
    if facts.recommended == "features_once":
        told.append("every image's feature leaves them")
    guarantee = (facts.entries.get(facts.recommended) or {}).get("epsilon")
    private = facts.config["privacy"]["mechanism"] != "none" and guarantee is not None
    told.append(f"differential privacy with epsilon {guarantee:.3g}" if private else "no differential privacy")
    told.append("secure sums" if summed(facts) else "no secure sums")
    told.append(measured(facts))
    return f"{'; '.join(told)}."


def measured(facts: Facts) -> str:
    """Whose leak was measured, as `leak` tells it."""
    if not (facts.inversion or {}).get("cases"):
        return "leak not measured"
    if facts.recommended == facts.own:
        return "leak measured, see below"
    label, own = label_of(facts, facts.recommended), label_of(facts, facts.own)
    return f"leak of {label} not measured, that of {own} is told below"


def choice(told: Choice) -> str:
    """`choice` of decision.json: what settings were chosen on. Only what was searched was chosen."""
    if not told.validation:
        return (
            "There were no validation images: nothing was chosen, and the settings are those of the config. The "
            f"{told.test:,} test images chose nothing either."
        )
    row = f"Rows were compared for the recommendation on {told.validation:,} validation images"
    if told.points < 2:
        return f"{row}. No setting was searched: they are those of the config. The test images chose nothing."
    return (
        f"{row}, on which settings were chosen too, from up to {told.points} tried of a row. The {told.test:,} test "
        "images chose nothing."
    )
