"""What a row's entry in summary.json says: figures, bytes, work, and the row itself in words."""

from ml_collections import ConfigDict

from cachefl_jax.config import Row, overrides_of
from cachefl_jax.config.rows import OWN
from cachefl_jax.methods import Method
from cachefl_jax.report.table import EXPLANATIONS, LABELS
from cachefl_jax.simulation.build import Learner

TRAFFIC = ("uplink_bytes_per_client_round", "downlink_bytes_per_client_round", "total_bytes")
PRIVACY = {
    "features_once": "Where features are sent once, the features and labels of every site leave it. Of all that is "
    "compared here they tell most of its images: pictures like them can be made from CLIP features."
}


def chosen(config: ConfigDict, row: Row) -> dict[str, dict]:
    """What an entry says of the values that its row has of its own; nothing where there are none."""
    values = {} if row.regime == "zero_shot" else overrides_of(config, row)
    return {"overrides": values} if values else {}


def told_of(row: Row, method: Method) -> dict[str, str]:
    """What an entry says of its row, so that a report needs no method's file."""
    told = {name: getattr(method, name) for name in ("label", "explanation", "untrained", "privacy")}
    reference = {regime: name for name, regime in OWN.items()}.get(row.regime)
    if reference:
        label = method.untrained or f"{method.label} at round 0"
        if row.regime != "round_0":  # by its old name it is config.method's
            label = LABELS[reference] if row.name == reference else f"{method.label}, {LABELS[reference]}"
        told = {"label": label, "explanation": EXPLANATIONS[reference], "privacy": PRIVACY.get(row.regime, "")}
    return {name: text for name, text in told.items() if text} | {"regime": row.regime}


def told_of_rounds(row: Row, learner: Learner) -> dict[str, str]:
    """`told_of` a federated row, and by whose model it is scored."""
    told = told_of(row, learner.method)
    if learner.local.work.model is None:
        return told
    scored = "each client scored by its own model, mean over clients"
    return told | {"explanation": f"{learner.method.explanation}; {scored}"}


def result(
    scores: dict, traffic: tuple = (0, 0, 0), *, rounds: int = 0, flops: float = 0.0, seconds: float | None = None
) -> dict:
    """A row's entry in summary.json. `traffic` is bytes up and down, of a client and round, and in all; None where
    nothing federated happened that could be counted."""
    sent = dict(zip(TRAFFIC, traffic, strict=True))
    return {**scores, "rounds": rounds, **sent, "client_flops_per_round": flops, "seconds_per_round": seconds}
