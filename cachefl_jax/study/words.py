"""What a study's tables, figures and page say in words and numbers."""

import pathlib

from ml_collections import ConfigDict

from cachefl_jax.report import units
from cachefl_jax.report.words import listed
from cachefl_jax.study.plan import Study
from cachefl_jax.study.results import Comparison, Standing, Table
from cachefl_jax.study.statistics import BETTER, EQUAL, UNKNOWN, WORSE

AGAINST = {
    BETTER: "better than",
    EQUAL: "no different within error from",
    WORSE: "worse than",
    UNKNOWN: "untested against",
}


def headline(study: Study, tables: list[Table]) -> list[str]:
    """The first sentences of a page: config.method against the best rival of each setting."""
    lines = [headline_of(study, table) for table in tables]
    if len(tables) == 1:
        return lines
    found = [table.best_rival(study.own) for table in tables]
    verdicts = [each.verdict for each in found if each is not None]
    counts = [
        f"{words.rpartition(' ')[0]} in {verdicts.count(name)}" for name, words in AGAINST.items() if name in verdicts
    ]
    label = next((row.label for table in tables for row in table.rows if row.name == study.own), study.own)
    return [
        f"Against the best rival of each of {len(tables)} settings {label} is {listed(counts, len(counts))}.",
        *lines,
    ]


def headline_of(study: Study, table: Table) -> str:
    """One setting's: accuracies, the difference with its error, and the bytes of both."""
    place = f"{table.setting.name}: " if table.setting.name else ""
    own = next((row for row in table.rows if row.name == study.own), None)
    label = own.label if own else study.own
    begun = label if place else units.sentence(label)
    if own is None or own.mean is None:
        return f"{place}{begun} has no accuracy here: training did not stay finite."
    compared = table.best_rival(study.own)
    if compared is None:
        return f"{place}{begun} classifies {accuracy(own)} of the test rows correctly; nothing rivals it here."
    rival, half = table.row(compared.rival), compared.difference.half
    error = f" ± {100 * half:.1f}" if half is not None else ""
    return (
        f"{place}{begun} is {AGAINST[compared.verdict]} the best rival, {rival.label}: {accuracy(own)} of the test "
        f"rows are right against {accuracy(rival)}, {units.points(compared.difference.mean)}{error} points, with "
        f"{sent(own)} sent in all against {sent(rival)}."
    )


def accuracy(row: Standing) -> str:
    """Mean and standard deviation over seeds, in percent."""
    spread = "" if row.std is None else f" ± {100 * row.std:.1f}"
    return f"{100 * row.mean:.1f}{spread}%" if row.mean is not None else units.EMPTY


def sent(row: Standing) -> str:
    """Bytes of a run by everybody."""
    total = row.average("total_bytes")
    return "nothing" if total == 0 else units.readable_bytes(total) if total is not None else "bytes not counted"


def points(compared: Comparison) -> str:
    """A difference with half of its 95% interval, in points."""
    half = compared.difference.half
    return units.points(compared.difference.mean) + (f" ± {100 * half:.1f}" if half is not None else "")


def values(row: Standing) -> str:
    """What was chosen for a row."""
    return ", ".join(f"{field}={value}" for field, value in row.values.items())


def p_value(p: float | None) -> str:
    return units.EMPTY if p is None else "<0.001" if p < 1e-3 else f"{p:.3f}"


def method(study: Study, tables: list[Table]) -> list[str]:
    """How the figures came about: what a reader of a paper asks."""
    pooled = any(row.regime == "centralized" for table in tables for row in table.rows)
    return [
        shared(study.config),
        tuning(study, len({row.name for table in tables for row in table.rows})),
        testing(study.config.study.seeds),
        *(["A row that needs all data in one place is a reference and no rival."] if pooled else []),
        *exceptions(study, tables),
    ]


def tuning(study: Study, rows: int) -> str:
    """How many points each of so many rows had, and what chose among them."""
    budget, tuned = study.config.study.budget, len(study.tuning_seeds)
    seeds = f"seeds {study.seeds[0]} to {study.seeds[-1]}" if len(study.seeds) > 1 else f"seed {study.seeds[0]}"
    if budget == 1:
        return f"No row was tuned: each ran as the config has it, by {seeds}."
    return (
        f"Each of {rows} rows had at most {budget} points of its own search space, the config as it is among them; the "
        f"best by validation accuracy on {'seed' if tuned == 1 else 'the first'} "
        f"{study.seeds[0] if tuned == 1 else f'{tuned} seeds'} was run by {seeds}. Test accuracy chose nothing."
    )


def testing(seeds: int) -> str:
    """What stands behind ±, and which tests there are."""
    spread, tests = "Behind ± of a difference stands half", "a paired randomization test over the test rows"
    if seeds > 1:
        spread = "Behind ± of an accuracy stands the standard deviation over seeds; of a difference, half"
        freedom = f"{seeds - 1} degree{'s' if seeds > 2 else ''} of freedom"
        tests = f"a paired t-test over {seeds} seeds ({freedom}), {tests} and a t-test by both; the largest p counts"
    return (
        f"{spread} of its 95% interval (over test rows a bootstrap's), uncorrected. Differences are tested by {tests}, "
        "corrected by Holm's rule over the pairs of a setting at 5%."
    )


def shared(config: ConfigDict) -> str:
    """What was trained on and for how long, as the study's config has it."""
    local, partition = config.local, config.partition
    data = " ".join(filter(None, (config.data.name, pathlib.Path(config.data.path or config.data.hub).name)))
    clients = f"{partition.name} partition"
    if partition.name not in ("natural", "given"):  # which say by themselves how many
        clients = f"{partition.clients:,} clients by a {clients}"
    epochs = f"{local.epochs} local epoch{'s' if local.epochs > 1 else ''}"
    return (
        f"Data: {data}; {clients}; {config.rounds:,} rounds of {epochs} in batches of {local.batch_size}, where a "
        "setting or a row has no values of its own."
    )


def exceptions(study: Study, tables: list[Table]) -> list[str]:
    """Rows that settings have no figures of, and why; a setting is named where it is not so in all."""
    found: dict[str, list[str]] = {}
    for table in tables:
        there = {row.name for row in table.rows}
        for told, names in (
            ("The method refuses the data or settings, and the row is left out",
             [row.name for row in study.rows if row.name not in there]),
            ("Training did not stay finite for some seed", [row.label for row in table.rows if row.diverged]),
            ("The data have no texts to classify by",
             [row.label for row in table.rows if row.regime == "zero_shot" and row.mean is None]),
        ):  # fmt: skip
            if names:
                found.setdefault(f"{told}: {', '.join(names)}", []).append(table.setting.name)
    return [
        f"{told}." if len(names) == len(tables) else f"{told} (with {'; '.join(names)})."
        for told, names in found.items()
    ]
