"""Sites that differ: how fast each is, when it is there, and how long the server waits for it."""

import pathlib

from ml_collections import ConfigDict

from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.config.field import Field, Part, Unused, lookup
from cachefl_jax.config.ranges import CHOOSE, FINITE, at_least, finite, one_of, within
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError

SUFFIXES = (".csv", ".json")
# What asks for a clock, and does nothing without.
NEED_PROFILES = ("participation.deadline", "participation.over_selection", "participation.buffer")


def scheduled(config: ConfigDict) -> bool:
    """Whether it is known before the run who takes part in which round: `cachefl_jax.clock` has it."""
    told = config.participation
    return bool(told.profiles) or told.drop_out > 0 or told.drop_out_late > 0


def file_of_profiles(config: ConfigDict) -> str:
    """The file that the profiles are read from; "" where they are a preset's, or there are none."""
    name = config.participation.profiles
    return "" if name in PRESETS else name


def named(name: str) -> bool:
    """Whether it may name profiles."""
    return name in ("", *PRESETS) or pathlib.Path(name).suffix.lower() in SUFFIXES


def check(config: ConfigDict) -> None:
    """What a clock demands of other fields, and they of each other."""
    told = config.participation
    for field in NEED_PROFILES:
        if not told.profiles and lookup(config, field):
            raise UsageError(
                field, lookup(config, field), "0 without participation.profiles", "name profiles, or leave it out"
            )
    if told.drop_out + told.drop_out_late >= 1:
        value = f"{told.drop_out_late:g}, with participation.drop_out={told.drop_out:g}"
        raise UsageError("participation.drop_out_late", value, "less than 1 together", "lower one of them")
    if scheduled(config):
        check_parts(config)
    if told.over_selection and config.cohort in (0, config.partition.clients):
        raise UsageError(
            "participation.over_selection", told.over_selection, "0 where all clients are asked", "set cohort"
        )
    if told.buffer:
        check_buffer(config)


def check_parts(config: ConfigDict) -> None:
    """Refuses what counts on cohorts that are drawn otherwise. Raises UsageError: there is such a part."""
    name, mend = config.participation.name, "participation.name=cohort"
    if name not in ("cohort", "full"):
        raise UsageError("participation.name", name, "cohort or full with profiles or drop-outs", mend)
    leave = "leave participation.profiles and its drop-outs out"
    if config.privacy.mechanism != "none":
        allowed = "none with profiles or drop-outs: who is in time depends on rows, which no accountant here covers"
        raise UsageError("privacy.mechanism", config.privacy.mechanism, allowed, leave)
    if config.aggregation.name in SECURE:
        allowed = "no secure sum with profiles or drop-outs: the clock does not count its messages (secure.dropout)"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, leave)


def check_buffer(config: ConfigDict) -> None:
    """Refuses what is nothing for updates from older params. Raises UsageError: there is something of it."""
    told, clients = config.participation, config.partition.clients
    if clients and told.buffer > clients:
        allowed = f"0 to partition.clients, {clients}: a site has one update in the buffer"
        raise UsageError("participation.buffer", told.buffer, allowed, "lower it")
    for field in ("participation.deadline", "participation.over_selection"):
        if lookup(config, field):
            allowed = "0 with participation.buffer: the server does not wait for a round's sites"
            raise UsageError(field, lookup(config, field), allowed, "leave it out")
    if config.engine.strategy == "dual":
        allowed = "another with participation.buffer: on coefficients all clients start from the same params"
        raise UsageError("engine.strategy", "dual", allowed, "engine.strategy=auto")
    if config.local.algorithm == "scaffold":
        allowed = "one without a control variate of the server's, with participation.buffer"
        raise UsageError("local.algorithm", "scaffold", allowed, "local.algorithm=fedavg")


# fmt: off
SITES = Part((
    Field("participation.profiles", "", "how fast each site is and when it is there, for a virtual clock: sites like "
          "hospitals' servers, offices behind ADSL, or phones; or a .csv or .json file (docs/sites.md); nothing: no "
          "clock", named, f"{', '.join(PRESETS)}, a .csv or .json file, or nothing", CHOOSE),
    Field("participation.drop_out", 0.0, "the probability that a site is lost before it works, each time it is asked",
          *within(0, 1), "0 loses nobody"),
    Field("participation.drop_out_late", 0.0, "the probability that a site is lost after its work, before its upload",
          *within(0, 1), "0 loses nobody"),
    Field("participation.deadline", 0.0, "virtual seconds after which a round ends; 0 = it waits for all sites",
          *finite(0), FINITE),
    Field("participation.late", "partial", "at the deadline. partial: a site does as many steps as leave it time to "
          "send; left_out: it does all, and what comes late is lost", *one_of("partial", "left_out"), CHOOSE),
    Field("participation.over_selection", 0.0, "by which share more sites are asked than the cohort has; the first of "
          "them to arrive are taken", *finite(0), FINITE),
    Field("participation.buffer", 0, "asynchronous: the server makes a step, a round, whenever so many updates have "
          "come, and sites do not wait (FedBuff, arXiv 2106.06639); 0 = synchronous", *at_least(0), "0 is synchronous"),
    Field("participation.concurrency", 0, "asynchronous: how many sites work at once; 0 = the cohort", *at_least(0),
          "0 takes the cohort"),
    Field("participation.staleness", 0.5, "asynchronous: an update that is s steps old is weighted by 1 / (1 + s) to "
          "the power of this", *finite(0), FINITE),
), check, (
    Unused(("participation.late",), lambda config: config.participation.deadline > 0, "participation.deadline"),
    Unused(("participation.concurrency", "participation.staleness"), lambda config: config.participation.buffer > 0,
           "participation.buffer"),
))
