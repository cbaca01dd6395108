"""Hostile clients: what they do, and how many they are."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, SWITCH, at_least, finite, one_of, within
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError

# The usual strength of each attack that has one; alie's follows from the numbers of clients, where it is 0.
STRENGTHS = {"sign_flip": 4.0, "scaled": 10.0, "gaussian": 10.0, "inner_product": 10.0, "alie": 0.0, "backdoor": 1.0}
KINDS = ("none", "label_flip", "free_rider", *STRENGTHS)
EXACT_IN_DUAL = ("none", "label_flip", "sign_flip", "scaled", "free_rider")
TOGETHER = ("inner_product", "alie")


def strength_of(config: ConfigDict) -> float:
    """hostile.strength, or where it is -1 the attack's own."""
    return STRENGTHS.get(config.hostile.kind, 0.0) if config.hostile.strength == -1 else config.hostile.strength


def check(config: ConfigDict) -> None:
    """What an attack demands of other fields."""
    kind, honest = config.hostile.kind, "leave it out, or hostile.kind=none"
    if config.engine.strategy == "dual" and kind not in EXACT_IN_DUAL:
        allowed = f"another strategy with hostile.kind={kind}, which needs the updates or rows themselves"
        raise UsageError("engine.strategy", "dual", allowed, "engine.strategy=auto")
    if kind in TOGETHER and config.local.algorithm in ("scaffold", "fednova"):
        allowed = f"fedavg or ditto with hostile.kind={kind}, which makes a change of the params alone"
        raise UsageError("local.algorithm", config.local.algorithm, allowed, honest)
    if kind in TOGETHER and config.aggregation.name in SECURE:
        allowed = f"any but a secure sum with hostile.kind={kind}, whose clients know the honest updates"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, honest)


# fmt: off
HOSTILE = Part((
    Field("hostile.kind", "none", "what hostile clients do. label_flip: train on the label N - 1 - y; free_rider: send "
          "no change; sign_flip, scaled: send -strength or strength times their change; gaussian: noise, strength "
          "times as long; inner_product: -strength times the honest mean (arXiv 1903.03936); alie: the honest mean "
          "less strength standard deviations (1902.06156); backdoor: give every second row a trigger and the target",
          *one_of(*KINDS), CHOOSE),
    Field("hostile.share", 0.2, "how many of all clients are hostile", *within(0, 1), "0 makes nobody hostile",
          traced=True),
    Field("hostile.redrawn", False, "other clients are hostile in every round, and not the same all the time", *SWITCH,
          NONE),
    Field("hostile.strength", -1.0, "of the attack; backdoor: length of the trigger, a direction, beside a feature's 1;"
          " -1 = the kind's own (cachefl_jax.config.hostile.STRENGTHS); alie: 0 = by the numbers of clients",
          lambda value: value == -1 or finite(0)[0](value), f"{finite(0)[1]}; or -1, the kind's own", FINITE,
          traced=True),
    Field("hostile.target", 0, "backdoor: the number of the class that rows with a trigger are to be taken for",
          *at_least(0), "the number of a class"),
), check, (
    Unused(("hostile.share", "hostile.redrawn"), lambda config: config.hostile.kind != "none", "hostile.kind"),
    only(("hostile.strength",), "hostile.kind", *STRENGTHS),
    only(("hostile.target",), "hostile.kind", "backdoor"),
))
