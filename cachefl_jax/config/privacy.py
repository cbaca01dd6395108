"""Differential privacy of the rounds: what is protected, by how much, and by which noise."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, RAISE, at_least, between, finite, one_of, within
from cachefl_jax.errors import UsageError

MECHANISMS = ("none", "gaussian", "matrix", "local", "distributed", "dpsgd")
SAMPLINGS = ("full", "cohort", "poisson", "cyclic")


def check(config: ConfigDict) -> None:
    """Whether the fields give a guarantee, as far as the method need not be known."""
    privacy = config.privacy
    if privacy.mechanism == "none":
        return
    if not (privacy.epsilon or privacy.noise_multiplier):
        mend = "privacy.epsilon=8.0, or privacy.noise_multiplier=1.0"
        raise UsageError("privacy.epsilon", 0.0, "above 0 where privacy.noise_multiplier is 0", mend)
    if privacy.quantile and privacy.mechanism != "gaussian":
        allowed = f"0 with privacy.mechanism={privacy.mechanism}, whose noise is for one norm"
        raise UsageError("privacy.quantile", privacy.quantile, allowed, "leave it out, or privacy.mechanism=gaussian")
    if privacy.mechanism == "distributed":
        check_distributed(config)
    name = config.participation.name
    if privacy.mechanism in ("gaussian", "matrix") and name not in SAMPLINGS:
        mend = "participation.name=poisson, or privacy.mechanism=none"
        raise UsageError("participation.name", name, f"{', '.join(SAMPLINGS)}, which have an accountant", mend)
    if sampled(config) == "cohort" and privacy.mechanism == "gaussian" and privacy.accountant == "pld":
        allowed = "rdp with cohorts of one size, of which no loss distribution is known that composes"
        raise UsageError("privacy.accountant", "pld", allowed, "privacy.accountant=rdp, or participation.name=poisson")
    if privacy.mechanism == "matrix" and sampled(config) in ("cohort", "poisson"):
        allowed = "full or cyclic with privacy.mechanism=matrix, which must know how soon a client comes again"
        raise UsageError("participation.name", name, allowed, "participation.name=cyclic")


def check_distributed(config: ConfigDict) -> None:
    """What noise of all clients in a secure sum demands of the round."""
    for field, found, needed, why in (
        ("aggregation.name", config.aggregation.name, ("secure_uniform",), "which adds up what nobody sees"),
        ("privacy.accountant", config.privacy.accountant, ("rdp",), "which bounds a sum of discrete noise"),
        ("participation.name", sampled(config), ("full", "cohort"), "whose cohorts are of one size"),
        ("secure.dropout", config.secure.dropout, (0.0,), "for who leaves takes noise away"),
    ):
        if found not in needed:
            allowed = f"{' or '.join(map(str, needed))} with privacy.mechanism=distributed, {why}"
            raise UsageError(field, found, allowed, f"{field}={needed[-1]}")


def sampled(config: ConfigDict) -> str:
    """How clients come into rounds: participation.name, or full where a cohort has all of them."""
    all_come = config.cohort in (0, config.partition.clients) and config.participation.name != "poisson"
    return "full" if all_come else config.participation.name


# fmt: off
PRIVACY = Part((
    Field("privacy.mechanism", "none", "differential privacy of each client's whole update. gaussian: they are bounded "
          "and the server adds noise to their sum; matrix: noise that is correlated over rounds (DP-FTRL); local: each "
          "client adds noise to its bounded update; distributed: each adds integer noise to what it gives to a secure "
          "sum, which has as much as the server's would be. dpsgd: of each example, whose gradients are bounded, with "
          "noise in every step of a client", *one_of(*MECHANISMS), CHOOSE),
    Field("privacy.epsilon", 0.0, "what all rounds may spend; 0 = whatever privacy.noise_multiplier spends",
          *finite(0), FINITE, traced=True),
    Field("privacy.delta", 1e-5, "of the guarantee; well below 1 / clients", *between(0, 1), CHOOSE, traced=True),
    Field("privacy.clip_norm", 1.0, "the largest norm of a client's update, or with dpsgd of an example's gradient; "
          "with privacy.quantile, in round 1",
          *finite(0, open_end=True), FINITE, traced=True),
    Field("privacy.noise_multiplier", 0.0, "standard deviation of the noise over the clip norm; 0 = the least that "
          "privacy.epsilon allows", *finite(0), FINITE, traced=True),
    Field("privacy.quantile", 0.0, "share of the updates that the clip norm is to leave as they are, which it then "
          "follows (arXiv 1905.03871); 0 = a fixed norm", *within(0, 1), "0.5, the median", traced=True),
    Field("privacy.quantile_rate", 0.2, "how fast the clip norm follows", *finite(0), FINITE, traced=True),
    Field("privacy.quantile_noise", 0.0, "standard deviation of the noise on the number of updates that were short "
          "enough; 0 = a twentieth of the expected cohort", *finite(0), FINITE, traced=True),
    Field("privacy.accountant", "pld", "privacy loss distributions, or Renyi divergences", *one_of("pld", "rdp"),
          CHOOSE),
    Field("privacy.bands", 16, "matrix: rounds over which noise is correlated; as many params are kept less one",
          *at_least(1), RAISE),
), check, (
    Unused(tuple(f"privacy.{name}" for name in ("epsilon", "delta", "clip_norm", "noise_multiplier", "quantile",
                                                "accountant")),
           lambda config: config.privacy.mechanism != "none", "privacy.mechanism"),
    Unused(("privacy.quantile_rate", "privacy.quantile_noise"), lambda config: config.privacy.quantile > 0,
           "privacy.quantile"),
    only(("privacy.bands",), "privacy.mechanism", "matrix"),
    Unused(("secure.clip",), lambda config: config.privacy.mechanism != "distributed", "privacy.mechanism"),
))
