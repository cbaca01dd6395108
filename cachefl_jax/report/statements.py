"""What was measured, what was not, and privacy: each sentence only of the runs of which it is true."""

from collections.abc import Iterator, Sequence

from cachefl_jax.data.file_bytes import COPIES
from cachefl_jax.report import rivals, table, units, words
from cachefl_jax.report.captions import server_images
from cachefl_jax.report.table import main_row
from cachefl_jax.report.workdir import Run


def measured(run: Run) -> list[str]:
    """What was measured in this run, how sure it is, and what was not."""
    return [*accuracy(run), *tuning(run), *error(run), *(run.summary.get("notes") or []), *costs(run)]


def accuracy(run: Run) -> Iterator[str]:
    """What the accuracies are of, and that nothing was chosen by them."""
    row, rows = main_row(run), rivals.test_rows(run)
    count = f"{rows:,} " if rows else ""
    if row.test_accuracy is not None:
        when = f"the {words.at_round_0(run)}" if rivals.untrained(run) else "the last round"
        whose = "of the server's own; nobody compared them with a site's" if run.sites else "that no client trained on"
        if any(COPIES.format("test") in note for note in run.summary.get("notes") or []):
            whose = "held out of training, some of them copies of training images"
        yield f"Test accuracy is that of {when}, on {count}rows {whose}."
    if sum(line["test_accuracy"] is not None for line in run.rounds) > 1:
        yield "The curve over the rounds comes from the test rows: this run chose no round and no setting by it."
    validation = int(units.number(run.summary["dataset"], "validation") or 0)
    if validation and row.validation_accuracy is not None:
        yield (
            f"The {validation:,} validation rows were measured in the same way. This run chose nothing by them: its "
            "settings are those of its config."
        )


def tuning(run: Run) -> Iterator[str]:
    """Whether the rows that train have values of their own."""
    rows = [row for row in table.method_rows(run.summary) if row.rounds]
    own = {row.label: row.entry.get("overrides") or {} for row in rows}
    told = [f"{label}: {', '.join(f'{name}={value}' for name, value in each.items())}" for label, each in own.items()
            if each]  # fmt: skip
    if told:
        yield f"Values of their own have {'; '.join(told)}. Any other row trains by the settings of the config."
    elif len(rows) > 1:
        yield "All rows that train share the settings of the config: none was tuned for itself."


def error(run: Run) -> Iterator[str]:
    """How much of the figures is chance."""
    doubt = words.doubt(run)
    if doubt:
        yield (
            f"The accuracy of {main_row(run).label} has a standard error of {doubt}. It tells of other test rows, not "
            "of other seeds or partitions."
        )
    if rivals.test_rows(run) and rivals.comparisons(run):
        yield (
            "Within error: the 95% interval of the difference (Agresti and Caffo), as if each method had test rows of "
            "its own, holds 0."
        )


def costs(run: Run) -> Iterator[str]:
    """Which figures are counted and which timed, and by what arithmetic."""
    rows = table.method_rows(run.summary)
    counted = [
        *(["Bytes"] if any(row.up is not None for row in rows) else []),
        *(["operations"] if any(row.flops is not None for row in rows) else []),
    ]
    if counted:
        yield f"{' and '.join(counted).capitalize()} are counted, not measured."
    if any(row.flops for row in rows):
        yield (
            "Operations are XLA's count of one training step's program, times the steps of a client's round: the empty "
            "places of a last batch count, and what is computed once a run does not."
        )
    precision = run.summary.get("precision")
    if precision:
        yield (
            f"Rounds, baselines and accuracies share one arithmetic: {precision['dtype']}, matrix products at JAX's "
            f'precision "{precision["matmul"]}".'
        )
    if any(row.seconds is not None for row in rows):
        yield (
            "Seconds are the simulator's own on the machine that ran it, for all clients of a round. No network and no "
            "client's device was timed."
        )


def privacy(run: Run) -> list[str]:
    """What leaves a client, and what it tells of its images."""
    sentences = [server_images(run).privacy]
    trained = run.method in run.summary["methods"] and not rivals.untrained(run)
    others = (entry for entry in run.summary["methods"].values() if entry.get("regime") not in (None, "federated"))
    beside = dict.fromkeys(entry["privacy"] for entry in others if entry.get("privacy"))
    if trained:
        sentences.append(
            words.own_entry(run).get("privacy")
            or "A client sends what it has trained and no image; what that tells of its images was not measured."
        )
        sentences += filter(None, [words.own_entry(run).get("guarantee")])
    elif not beside:
        sentences.append("No client sent anything: no federated round was run.")
    sentences += beside
    if "centralized" in run.summary["methods"]:
        sentences.append(f"The method {table.label('centralized')}, here to compare with, needs all data in one place.")
    return sentences


def together(runs: Sequence[Run], told: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """(whose it is, sentence) of what each run has to tell, once each; "" where it is true of all.

    Args:
        runs: one or more.
        told: the sentences of each.
    """
    owners: dict[str, list[str]] = {}
    for run, sentences in zip(runs, told, strict=True):
        for sentence in dict.fromkeys(sentences):
            owners.setdefault(sentence, []).append(run.name)
    return [
        ("" if len(names) == len(runs) else words.listed(names, most=4), sentence) for sentence, names in owners.items()
    ]
