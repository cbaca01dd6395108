"""A datasheet of the server's set: questions of "Datasheets for Datasets" (Gebru et al., arXiv 1803.09010) that the
stage can answer by what it did, and those that a person has to answer, left open and said to be."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cachefl_jax.synthesis.records import BROUGHT, DRAWN, REAL, Candidate, Facts, costs, counts, kind_of

OPEN = "Not answered: a person has to."
UNSEEN = "No: no review was given (synthesis.review)."
MOST_CLASSES = 30  # that are listed with their counts


class Section(NamedTuple):
    """Questions and their answers."""

    title: str
    answers: tuple[tuple[str, str], ...]


def sections(
    facts: Facts, candidates: Sequence[Candidate], reviews: Sequence[str], measures: Mapping[str, Any]
) -> list[Section]:
    """The datasheet.

    Args:
        reviews: what each person who looked at the set said of it, in a sentence.
        measures: as in measures.json; {} where nothing was measured."""
    return [
        Section("Motivation", (
            ("For what purpose was the set made?", "As the server's cache of features in federated fine-tuning by "
             "CacheFL (arXiv 2505.05130): the set is encoded, and the features are sent to the clients."),
            ("Who made it, who paid for it?", OPEN),
        )),
        Section("Composition", composition(facts, candidates, measures)),
        Section("Making", making(facts, candidates)),
        Section("Looking", (("Has a person looked at the images?", " ".join(reviews) or UNSEEN),)),
        Section("Uses", (
            ("What should it not be used for?", "Generated images show what a generator has learnt of a class, its "
             "errors and prejudices included: they are no sample of the world, and say nothing of how often "
             "anything occurs. Accuracy must not be measured on them."),
            ("Has it been used?", "See the runs whose summary names its digest."),
        )),
        Section("Terms and keeping", terms(facts)),
    ]  # fmt: skip


def composition(
    facts: Facts, candidates: Sequence[Candidate], measures: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    numbers = counts(facts, candidates)
    kinds = {how: sum(kind_of(facts, each) == how for each in candidates) for how in (DRAWN, BROUGHT, REAL)}
    told = ", ".join(f"{count:,} {how}" for how, count in kinds.items() if count)
    listed = [f"{name}: {count:,}" for name, count in list(numbers.items())[:MOST_CLASSES]]
    if len(numbers) > MOST_CLASSES:
        listed.append(f"and {len(numbers) - MOST_CLASSES:,} more classes")
    keys = sum(bool(each.key) for each in candidates)
    real = "Yes: see the count of real images above." if kinds[REAL] else "None that this package put in."
    if kinds[BROUGHT]:
        real = "Not known: the images were made elsewhere."
    distances = "Not measured: there were no validation images, or the step was not run."
    if overall := measures.get("all"):
        distances = ", ".join(f"{name} {value:.4g}" for name, value in overall.items() if isinstance(value, float))
    return (
        ("How many images are there?", f"{len(candidates):,}: {told}; {keys:,} of them are part of a key."),
        ("Of which classes?", "; ".join(listed)),
        ("Is each image labelled?", "By the class it was drawn or brought for. See scores.csv for what CLIP thinks."),
        ("Does it hold images of real persons or places?", f"{real} A generator may repeat what it was trained on."),
        ("How near is it to real images?", distances),
    )


def making(facts: Facts, candidates: Sequence[Candidate]) -> tuple[tuple[str, str], ...]:
    manifest = facts.manifest
    if "weights_sha256" not in manifest:
        where = {"held_out": "They are real training images, set apart."}.get(
            facts.source, "They were brought along; their makers have to say."
        )
        return (("How were the images made?", where),)
    spent = costs(facts)
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    scheduler = manifest.get("scheduler") or "the model's own scheduler"
    how = f"{manifest.get('steps')} steps, guidance {manifest.get('guidance')}, {scheduler}"
    distinct = len({each.origin.prompt for each in candidates if each.origin.prompt})
    return (
        ("What drew the images?", f"{facts.pipeline}, weights sha256 {manifest['weights_sha256']}"),
        ("How?", f"{how}; on {manifest.get('device', 'a machine that was not recorded')}, {versions}"),
        ("When?", manifest.get("date") or "Not recorded."),
        ("From which prompts?", f"{distinct:,} different texts; provenance.jsonl has each image's."),
        ("What did it cost?", cost_words(spent)),
        ("Were images left out?", f"{manifest.get('redrawn', 0):,} were drawn again: the pipeline gave none."),
    )


def cost_words(spent: Mapping[str, Any]) -> str:
    """What drawing took, as far as it was measured."""
    if spent["seconds"] is None:
        return "Not recorded."
    told = f"{spent['seconds']:,.1f} seconds, {spent['seconds_an_image']:.3g} an image"
    energy, price = spent["energy_joules"], spent["price"]
    told += "; energy was not measured" if energy is None else f"; {energy / 3600:,.3g} watt-hours by NVML"
    return told + ("; no price was told." if price is None else f"; {price:.3g} at the price of an hour that was told.")


def terms(facts: Facts) -> tuple[tuple[str, str], ...]:
    if facts.terms is None:
        licence = "Not known: whoever made the images has to say."
    elif facts.terms.licence is None:
        licence = "The generator's files do not tell its licence."
    else:
        link = f" ({facts.terms.link})" if facts.terms.link else ""
        licence = f"The generator's model card says {facts.terms.licence}{link}; nobody has checked it."
    return (
        ("On which terms may the images be used?", licence),
        ("Which revision of the generator?", (facts.terms and facts.terms.revision) or "Not told by its files."),
        ("Who keeps the set, and how is it corrected?", OPEN),
    )
