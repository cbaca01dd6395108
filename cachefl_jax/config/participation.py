"""Who takes part in a round."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.partition import FOUND
from cachefl_jax.config.ranges import CHOOSE, at_least, one_named
from cachefl_jax.errors import UsageError

PARTICIPATIONS = {name: f"cachefl_jax.federation.participation:{name}" for name in ("cohort", "full", "poisson")}

# fmt: off
FIELDS = (
    Field("participation.name", "cohort", "who takes part in a round: cohort clients, drawn anew; all of them; or each "
          "with probability cohort / clients", *one_named(PARTICIPATIONS), CHOOSE),
    Field("cohort", 0, "clients a round; 0 = all", *at_least(0), "0 takes all clients"),
)
# fmt: on


def check(config: ConfigDict) -> None:
    """Whether the cohort's size goes with the clients and with how they are drawn."""
    name, cohort, clients = config.participation.name, config.cohort, config.partition.clients
    unknown = config.partition.name in FOUND and not clients
    if cohort > clients and not unknown:
        raise UsageError("cohort", cohort, f"0 to partition.clients, {clients}", "lower it, or 0 for all clients")
    if name == "full" and cohort not in (0, clients):
        raise UsageError("cohort", cohort, "0 with participation.name=full, which takes all clients", "leave it out")
    if name == "poisson" and not cohort:
        raise UsageError("cohort", 0, "1 or more with participation.name=poisson, which expects as many", "set it")


PARTICIPATION = Part(FIELDS, check)
