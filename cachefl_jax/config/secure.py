"""Secure sums: the server gets the cohort's sum, and of a single update nothing."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, only
from cachefl_jax.config.ranges import FINITE, at_least, between, finite, within
from cachefl_jax.errors import UsageError

SECURE = ("secure_mean", "secure_uniform")  # of `aggregation.name`
LEAST_CLIENTS = 3  # of two, each knows the other's update from the sum
EVEN = 2  # neighbours lie on both sides of a client


def check(config: ConfigDict) -> None:
    """What a secure sum demands of the cohort and of the clients' algorithm."""
    if config.aggregation.name not in SECURE:
        return
    clients, bits = config.cohort or config.partition.clients, config.secure.bits
    name, field = config.aggregation.name, "cohort" if config.cohort else "partition.clients"
    if 0 < clients < LEAST_CLIENTS:
        allowed = f"{LEAST_CLIENTS} or more with aggregation.name={name}: the sum of fewer shows an update"
        raise UsageError(field, clients, allowed, "raise it")
    if clients > most_clients(bits):
        allowed = f"bits of which {clients} clients' sum has room: they take at most 2^(secure.bits - 2) clients"
        raise UsageError("secure.bits", bits, allowed, f"raise it, or lower {field}")
    if config.local.algorithm in ("scaffold", "fednova"):
        sent = {"scaffold": "control variates have no known range", "fednova": "a number goes beside the update"}
        allowed = f"fedavg or ditto with aggregation.name={name}: {sent[config.local.algorithm]}"
        raise UsageError("local.algorithm", config.local.algorithm, allowed, "local.algorithm=fedavg")


def most_clients(bits: int) -> int:
    """How many clients a sum of so many bits has room for."""
    return 2 ** (bits - 2)


def even(most: int):
    """0, or an even number from 2 to `most`."""
    return lambda value: 0 <= value <= most and value % EVEN == 0, f"0, or an even number up to {most}"


# fmt: off
SECURE_SUMS = Part((
    Field("secure.clip", 1.0, "a secure sum: numbers of an update are cut to at most this size, either sign",
          *finite(0, open_end=True), FINITE, traced=True),
    Field("secure.bits", 24, "a secure sum: bits of a number that travels; the mean's step is secure.clip / 2^(bits-2)",
          *at_least(8, 24), "8 bits are coarse, 24 as fine as float32"),
    Field("secure.neighbours", 0, "a secure sum: clients that each shares masks and secrets with; 0 = all others "
          "(SecAgg, Bonawitz et al. 2017), or a ring of so many (SecAgg+, Bell et al. 2020)",
          *even(10_000), "0 takes all others"),
    Field("secure.threshold", 0.6, "a secure sum: the share of a client's neighbours whose answers recover its secret",
          *between(0.5, 1, closed=True), "half or fewer would let a server ask for both secrets of a client"),
    Field("secure.dropout", 0.0, "a secure sum: the probability that a client leaves between its shares and its update",
          *within(0, 1), "0 loses nobody", traced=True),
), check, (
    only(("secure.clip", "secure.bits", "secure.neighbours", "secure.threshold", "secure.dropout"),
         "aggregation.name", *SECURE),
))
