"""The part of an audit that reads clients' updates: which classes they hold, and which features their rows have."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.audit.part import Context, Section, Table
from cachefl_jax.simulation.leak_pictures import pictured
from cachefl_jax.simulation.leaks import Case, Laboratory, attacked, clients_seen, defended, received

RIVAL, PLAIN = "linear_probe", "as the run trains"
HEAD = ("update", "rows", "|cos|", "by chance", "of class means", "rows named", "by chance", "classes named exactly",
        "rows of no named class", "by chance")  # fmt: skip
SENTENCES = (
    "The attacker is the server: it knows the model before the round, the clients' settings and how many rows each "
    "has, and its own images; neither their order in batches nor any row. It sees what clients send in the run's first "
    "round, or where that is said one round after the last. Noise that the server adds itself comes after that, and "
    "changes nothing here.",
    "|cos| is that of each true feature to the one found for it. Rows named: the share of a client's rows that are, "
    "among all clients' rows, the nearest to a feature found. Classes named exactly: all that a client holds and no "
    "others. By chance: the same for another client's update. Of class means: what the server's own images of the "
    "true classes come to without an update. Ranges are intervals over clients.",
)


class Plan(NamedTuple):
    """What is tried."""

    attacked: int = 16  # updates, or sums, of each case
    rows: tuple[int, ...] = (1, 2, 4, 8, 32)  # of a client
    fewer: tuple[int, ...] = (1, 8)  # of these, where more than the rows is varied
    defended: tuple[int, ...] = (1, 4)  # rows of a client behind a defence
    cohorts: tuple[int, ...] = (3, 10, 20)  # clients of a secure sum
    epsilon: float = 8.0  # of local privacy, and of DP-SGD, over all of the run's rounds


PLAN = Plan()


def training_cases(context: Context, plan: Plan) -> list[Case]:
    """Undefended updates: by rows of a client, by epochs and batches, of the run's last model, of another method."""
    most = max(context.inputs.partition.sizes.max(), 1)
    rows, some = [count for count in plan.rows if count <= most], min(4, most)
    own = [Case(PLAIN, count) for count in rows]
    fewer = [count for count in rows if count in plan.fewer]
    later = [Case("the same after the last round", count, trained=True) for count in fewer]
    ways = [("5 epochs", {"local.epochs": 5}), ("batches of 1", {"local.batch_size": 1}),
            ("plain SGD", {"local.optimizer": "sgd", "local.momentum": 0.0, "local.nesterov": False})]  # fmt: skip
    rival = [] if context.config.method == RIVAL else [Case("linear probe", count, method=RIVAL) for count in fewer]
    return [*own, *later, *(Case(label, some, changes) for label, changes in ways), *rival]


def defended_cases(context: Context, plan: Plan, norm: float) -> list[Case]:
    """The same update behind each defence; `norm` is the median norm of an update of one row."""
    encoded = [("8 bits", ("quantize",), {"updates.bits": 8}), ("1 bit", ("quantize",), {"updates.bits": 1}),
               ("1 bit, rotated", ("rotated_quantize",), {"updates.bits": 1}),
               ("largest 1%", ("top_k",), {"updates.fraction": 0.01}),
               ("rank 1", ("low_rank",), {"updates.rank": 1})]  # fmt: skip
    changes = {"none": {}, f"clip at {norm:.3g}": {"updates.transforms": ("clip",), "updates.clip_norm": norm}}
    changes |= {label: {"updates.transforms": names} | more for label, names, more in encoded}
    private = {"privacy.epsilon": plan.epsilon, "privacy.clip_norm": norm}
    changes[f"local privacy, epsilon {plan.epsilon:g}"] = {"privacy.mechanism": "local"} | private
    changes[f"DP-SGD, epsilon {plan.epsilon:g}"] = {"privacy.mechanism": "dpsgd"} | private | {"privacy.clip_norm": 1.0}
    cases = [Case(label, rows, more) for label, more in changes.items() for rows in plan.defended]
    secure = {"aggregation.name": "secure_uniform", "secure.dropout": 0.0}
    cases += [Case(f"secure sum of {size}", plan.defended[0], secure, summed=size) for size in plan.cohorts]
    own = [Case("this run as it is", rows, own=True, summed=clients_seen(context.config)) for rows in plan.defended]
    return (own if defended(context.config) else []) + cases


class Found(NamedTuple):
    """What cases came to."""

    figures: list[tuple[Case, dict]]
    refused: list[str]  # why others could not be had


def tried(cases: list[Case], measure: Callable[[Case], dict]) -> Found:
    """Each case that can be had."""
    figures, refused = [], []
    for case in cases:
        try:
            figures.append((case, measure(case)))
        except UsageError as error:
            refused.append(f"Not tried, {case.label}, {plural(case.rows)}: {error}.")
    return Found(figures, refused)


def inversion(context: Context, plan: Plan = PLAN) -> tuple[dict, Section]:
    """Features and classes of the rows, from updates.

    Raises UsageError: as `Laboratory.learner`, of the run's own method."""
    laboratory, shown = start(context, plan), []

    def measure(case: Case) -> dict:
        taken = laboratory.take(case)
        if worth_a_picture(case):
            shown.append((case, taken))
        return laboratory.figures(taken)

    plain = tried(training_cases(context, plan), measure)
    behind = tried(defended_cases(context, plan, typical_norm(laboratory)), measure)
    tables = [
        Table("Read from an update without any defence", HEAD, [cells(*each) for each in plain.figures]),
        Table("The same behind each defence", HEAD, [cells(*each) for each in behind.figures]),
        *pictured(context, laboratory, shown),
    ]
    sentences = [*SENTENCES, *plain.refused, *behind.refused]
    return record(plain, behind), Section("What an update gives away", sentences, tables)


def own_leak(context: Context, plan: Plan) -> dict:
    """What updates of `plan.rows` rows give away, as the run trains, and behind its own defences if it has any: the
    record of `inversion`, of these cases alone.

    Raises UsageError: as `Laboratory.learner`, of the run's own method."""
    laboratory = start(context, plan)
    rows = [count for count in plan.rows if count <= context.inputs.partition.sizes.max()]
    cases, seen = [Case(PLAIN, count) for count in rows], clients_seen(context.config)
    if defended(context.config):
        cases += [Case("this run as it is", count, own=True, summed=seen) for count in rows]
    return record(tried(cases, lambda case: laboratory.figures(laboratory.take(case))), Found([], []))


def worth_a_picture(case: Case) -> bool:
    """Clients of 1 row and of 8 as the run trains, and a secure sum of 10."""
    return (case.label == PLAIN and case.rows in (1, 8)) or (case.label == "secure sum of 10" and case.rows == 1)


def start(context: Context, plan: Plan) -> Laboratory:
    """Raises UsageError: as `Laboratory.learner`, of the run's own method."""
    laboratory = Laboratory(context, plan.attacked)
    laboratory.learner(Case("the run", 1))
    return laboratory


def typical_norm(laboratory: Laboratory) -> float:
    """The median norm of an update of one row, of those that changed anything."""
    _, learner = laboratory.learner(Case("the run", 1))
    context = laboratory.context
    rows = attacked(context.inputs.partition, laboratory.count, 1, context.settings.seed)
    norms = np.linalg.norm(received(learner, learner.params, rows, 1).reshape(len(rows), -1), axis=1)
    return float(f"{np.median(norms[norms > 0]):.2g}") if norms.any() else 1.0


def record(plain: Found, behind: Found) -> dict:
    """For audit.json."""
    told = [
        {"update": case.label, "rows": case.rows, "summed": case.summed} | figures
        for case, figures in (*plain.figures, *behind.figures)
    ]
    return {"cases": told, "not_tried": [*plain.refused, *behind.refused]}


def cells(case: Case, figures: dict) -> tuple:
    """A line of the table."""
    return (
        case.label, plural(case.rows), interval(figures["cosine"]), f"{figures['cosine_by_chance']:.2f}",
        f"{figures['cosine_of_class_means']:.2f}", share(figures["named_rows"]),
        f"{figures['named_rows_by_chance']:.0%}", share(figures["exact_classes"]), share(figures["wrong_labels"]),
        f"{figures['wrong_labels_by_chance']:.0%}",
    )  # fmt: skip


def plural(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def interval(figure: dict) -> str:
    """A mean and its interval."""
    return f"{figure['mean']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def share(figure: dict) -> str:
    """The same as percentages."""
    return f"{figure['mean']:.0%} ({figure['low']:.0%} to {figure['high']:.0%})"
