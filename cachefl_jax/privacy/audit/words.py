"""What the parts found, in words and pictures that claim no more than was measured."""

import numpy as np
from matplotlib.figure import Figure

from cachefl_jax.privacy.audit.part import Section, Table
from cachefl_jax.report import palette

HIDDEN = {
    "aggregate": "The attacker sees what the server makes of each round, after all noise.",
    "update": "The attacker sees the update that the canary's client sends, after all noise.",
}
CANARY = {
    "client": "A canary client sends one fixed direction in every round that it comes to.",
    "example": "A canary example has a gradient of one fixed direction in every step.",
}
CHANCE = "Nothing was told from chance: that is what these attacks found, and no proof that others find no more."


def number(value: float | None) -> str:
    """An epsilon in a cell."""
    return "-" if value is None else f"{value:.2f}"


def canaries(found: dict, inside: np.ndarray, outside: np.ndarray) -> Section:
    """The section of the part `canaries`, for its record and the scores with and without the canary, [T] each."""
    confidence = f"{100 * found['confidence']:.0f}% confidence"
    rows = [(f"{found['trials']:,} runs, any mechanism", number(found["epsilon_at_least"]))]
    if found["epsilon_at_least_gaussian"] is not None:
        rows.append(
            (f"{found['trials']:,} runs, noise known to be Gaussian", number(found["epsilon_at_least_gaussian"]))
        )
    if found["one_run"] is not None:
        rows.append(
            (f"one run with {found['one_run']['canaries']:,} canaries", number(found["one_run"]["epsilon_at_least"]))
        )
    rows.append(("promised, at most", number(found["epsilon_promised"])))
    sentences = [
        f"{CANARY[found['canary']]} {HIDDEN[found['sees']]} Out means that {found['out']}.",
        f"Epsilon is at least what the table says, with {confidence} for each row, at delta {found['delta']:g}.",
        verdict(found),
    ]
    caption = f"Epsilon: lower bounds that were measured, with {confidence}, and what is promised."
    figure = palette.chart(
        "canaries", "Scores of runs with the canary and without it.", lambda width: histogram(width, inside, outside)
    )
    drawn = "How often which score came: with the canary, and without it."
    return Section("A canary, in or out", sentences, [Table(caption, ("by", "epsilon"), rows)], [(figure, drawn)])


def verdict(found: dict) -> str:
    """What the bounds say of the promise."""
    promised = found["epsilon_promised"]
    if found["refuted"]:
        return f"The promise of epsilon {promised:.3g} is refuted: the noise is less than its accountant reckons with."
    if promised is not None:
        return f"The promise of epsilon {promised:.3g} is not refuted; that does not prove it."
    if found["epsilon_at_least"] > 0:
        return "The run promises nothing, and the canary is told from its absence."
    return f"The run promises nothing. {CHANCE}"


def membership(found: dict, private: bool) -> Section:
    """The section of the part `membership`, for its record."""
    attackers = [("a client: the last model", found["last_model"])]
    rounds = ", ".join(map(str, found["rounds_seen"]))
    if len(found["rounds_seen"]) > 1:
        attackers.append((f"the server: the models after rounds {rounds}", found["models_on_the_way"]))
    rows = [
        (who, *(share(told[name]) for name in ("auc", "tpr_at_1_in_100", "tpr_at_1_in_1000")))
        for who, told in attackers
    ]
    best = max(told["auc"]["mean"] - told["auc"]["half"] for _, told in attackers)
    sentences = [
        f"{found['shadows']} federations were trained as the run was, each on a random half of every client's rows. "
        f"Each is attacked by what the others show of {found['rows']:,} rows. By chance the area is 50%, the shares 1% "
        "and 0.1%.",
        "Members are told from others better than by chance." if best > 0.5 else CHANCE,
    ]
    if private:
        sentences.append("The attack is on examples, not on the worst case of the promise: it can be far below that.")
    head = ("who, and what it sees", "area under the curve", "members found at 1% false", "at 0.1% false")
    return Section("Was a row trained on?", sentences, [Table("With 95% intervals over the federations.", head, rows)])


def share(told: dict) -> str:
    """A share with its interval."""
    return f"{100 * told['mean']:.1f}% ± {100 * told['half']:.1f}"


def histogram(width: float, inside: np.ndarray, outside: np.ndarray) -> Figure:
    """Two outlines over one axis."""
    figure = Figure(figsize=(width, 2.6), layout="constrained")
    axes, both = figure.add_subplot(), np.concatenate([inside, outside])
    edges = np.histogram_bin_edges(both / max(np.abs(both).max(), np.finfo(float).tiny), 40)
    for scores, label, colour in ((inside, "with", palette.SERIES[1]), (outside, "without", palette.SERIES[0])):
        scaled = scores / max(np.abs(both).max(), np.finfo(float).tiny)
        axes.stairs(np.histogram(scaled, edges)[0], edges, color=colour, label=label)
    axes.set_xlabel("score, its largest size as 1")
    axes.set_ylabel("runs")
    axes.legend(frameon=False)
    return figure
