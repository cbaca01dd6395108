"""Differential privacy as a config asks for it: the parts of a private round, their numbers, and what rounds spend."""

import importlib.util
import math
from typing import NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config.privacy import sampled
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Federation
from cachefl_jax.federation.examples import Privacy
from cachefl_jax.methods import Method
from cachefl_jax.privacy.accounting import Exposure, calibrated, most_rounds, spent
from cachefl_jax.privacy.matrix import matrix, sensitivity
from cachefl_jax.privacy.noise import (
    Noise,
    adaptive,
    adaptive_bound,
    bound,
    gaussian,
    local_noise,
    mean_of_expected,
)
from cachefl_jax.privacy.secure.distributed import discrete
from cachefl_jax.storage.run_files import SPENT

MUCH = 2.0**20  # a noise multiplier above which bits alone decide
PACKAGES = dict.fromkeys(("gaussian", "local", "distributed", "dpsgd"), "dp_accounting") | {"matrix": "jax_privacy"}
LABELS = {
    "gaussian": "noise at the server",
    "matrix": "correlated noise at the server",
    "local": "noise at each client",
    "distributed": "noise of all clients in a secure sum",
    "dpsgd": "noise in each client's steps",
}
NEIGHBOURS = {
    "cohort": "federations that differ in all that one client holds",
    "local": "updates that differ in all that one client holds",
    "distributed": "federations in which one client's update counts or is zeros",
}


class Budget(NamedTuple):
    """A private run's noise, and what it spends."""

    exposure: Exposure
    noise: float  # z
    rounds: int  # that the run is to have
    bands: int = 0  # of the matrix; 0: noise is independent

    def after(self, rounds: int) -> float:
        """Epsilon of the first so many rounds."""
        if not self.bands:
            return spent(self.exposure, self.noise, rounds)
        weaker = self.factor / sensitivity(self.bands, rounds, self.exposure.separation)
        return spent(self.exposure._replace(sampling="full"), self.noise * weaker, min(rounds, 1))

    @property
    def factor(self) -> float:
        """What the matrix multiplies the noise with; 1 without one."""
        return sensitivity(self.bands, self.rounds, self.exposure.separation) if self.bands else 1.0


def private(config: ConfigDict) -> bool:
    """Whether the config asks for differential privacy."""
    return config.privacy.mechanism != "none"


def budget_of(config: ConfigDict) -> Budget:
    """The budget of a private config, its number of clients known.

    Raises UsageError: dp-accounting or jax-privacy is not installed, or the rounds spend more than privacy.epsilon."""
    privacy, clients = config.privacy, config.partition.clients
    check_package(privacy.mechanism)
    sampling, releases = sampled(config), 1
    if privacy.mechanism in ("local", "distributed"):
        sampling = privacy.mechanism
    elif privacy.mechanism == "dpsgd":
        sampling, releases = "cyclic" if sampling == "cyclic" else "full", config.local.epochs
    exposure = Exposure(sampling, clients, config.cohort or clients, privacy.accountant, privacy.delta, releases)
    if privacy.mechanism == "distributed":
        exposure = exposure._replace(bits=config.secure.bits)
        check_bits(config, exposure)
    bands, rounds = (privacy.bands if privacy.mechanism == "matrix" else 0), config.rounds
    noise = privacy.noise_multiplier
    if not noise:
        one_release = exposure._replace(sampling="full") if bands else exposure
        noise = calibrated(one_release, privacy.epsilon, min(rounds, 1) if bands else rounds)
    budget = Budget(exposure, noise, rounds, bands)
    if privacy.epsilon and budget.after(rounds) > privacy.epsilon:
        value = f"{rounds}, which spend epsilon {budget.after(rounds):.4g} at privacy.noise_multiplier={noise:g}"
        allowed = f"rounds that spend at most privacy.epsilon={privacy.epsilon:g}"
        mend = "raise privacy.noise_multiplier in a new folder"
        if not bands:
            mend = f"rounds={most_rounds(exposure, noise, privacy.epsilon, rounds)}, or {mend}"
        raise UsageError("rounds", value, allowed, mend)
    return budget


def check_bits(config: ConfigDict, exposure: Exposure) -> None:
    """Raises UsageError: a sum of so few bits has no room for the noise that the budget needs."""
    privacy, rounds = config.privacy, config.rounds
    least = spent(exposure, privacy.noise_multiplier or MUCH, rounds)
    if least > privacy.epsilon > 0 or math.isinf(least):
        allowed = f"so many that {rounds} rounds of {exposure.cohort} clients spend less than {least:.4g}"
        raise UsageError("secure.bits", exposure.bits, allowed, "raise it, or privacy.epsilon")


def check_package(mechanism: str) -> None:
    """Raises UsageError: what the mechanism needs is not installed."""
    package = PACKAGES[mechanism]
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise UsageError(
            "privacy.mechanism", f"{mechanism} (no package {name})", "none without it", f"pip install {name}"
        )


def with_privacy(config: ConfigDict, method: Method, federation: Federation) -> Federation:
    """The federation with the parts that privacy.* asks for. Raises UsageError: others would void the guarantee."""
    privacy = config.privacy
    if privacy.mechanism == "dpsgd":
        if method.closed_form is not None:
            allowed = "a method that trains, with privacy.mechanism=dpsgd: this one is solved in closed form"
            raise UsageError("method", method.label, allowed, "privacy.mechanism=gaussian, or leave it out")
        return federation
    check_parts(config, method, federation)
    if privacy.mechanism == "distributed":  # the secure sum brings it
        return federation
    if privacy.mechanism == "local":
        return federation._replace(transforms=(*federation.transforms, local_noise))
    mechanism = adaptive if privacy.quantile else gaussian
    if privacy.mechanism == "matrix":
        mechanism = matrix(privacy.bands)
    last = adaptive_bound if privacy.quantile else bound
    aggregation = federation.aggregation if method.closed_form else mean_of_expected(float(expected(config)))
    return federation._replace(transforms=(*federation.transforms, last), aggregation=aggregation, mechanism=mechanism)


def expected(config: ConfigDict) -> int:
    """E: clients of a round, on average."""
    return config.cohort or config.partition.clients


def check_parts(config: ConfigDict, method: Method, federation: Federation) -> None:
    """Refuses parts of a round by which more would get out than a bounded sum. Raises UsageError: there is one."""
    mechanism, work, closed = config.privacy.mechanism, federation.local.work, method.closed_form
    if work.scale is not None or work.correct is not None:
        allowed = f"fedavg or ditto with privacy.mechanism={mechanism}: of others more is sent than a bounded update, "
        allowed += "or a state must stay the clients' mean"
        raise UsageError("local.algorithm", config.local.algorithm, allowed, "local.algorithm=fedavg")
    if mechanism in ("local", "distributed"):
        return
    if closed is not None and closed.collect:
        allowed = f"a method whose server needs sums alone, with privacy.mechanism={mechanism}"
        raise UsageError("method", method.label, allowed, "privacy.mechanism=local, or leave it out")
    if mechanism == "matrix" and not work.sends_change:
        allowed = "a method whose clients send the change of their params, with privacy.mechanism=matrix"
        raise UsageError("method", method.label, allowed, "privacy.mechanism=gaussian, or leave it out")
    if closed is None and config.aggregation.name != "uniform":
        allowed = f"uniform with privacy.mechanism={mechanism}, which bounds what each client adds to the sum"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, "aggregation.name=uniform")


def noise_of(config: ConfigDict, closed: bool) -> tuple:
    """(numbers of the transforms that privacy adds, of the mechanism); statistics of a closed form are added up.

    Raises UsageError: as `budget_of`, or the clients' bits have too little noise."""
    privacy, budget = config.privacy, budget_of(config)
    share = 1.0 if closed else float(expected(config))
    numbers = Noise(budget.noise * budget.factor, privacy.clip_norm, share)
    if privacy.mechanism == "local":
        return (numbers,), ()
    if privacy.mechanism == "dpsgd":
        return (), ()
    if privacy.mechanism == "distributed":
        return (), discrete(privacy.clip_norm, budget.noise, expected(config), config.secure.bits)
    if not privacy.quantile:
        return (privacy.clip_norm,), numbers
    bits = privacy.quantile_noise or expected(config) / 20
    if 2 * bits <= budget.noise:
        allowed = f"above {budget.noise / 2:.4g}, half of the noise multiplier, which updates and bits share"
        mend = "raise it; or a larger cohort or privacy.epsilon"
        raise UsageError("privacy.quantile_noise", bits, allowed, mend)
    updates = 1 / math.sqrt(budget.noise**-2 - (2 * bits) ** -2)  # arXiv 1905.03871, theorem 1
    return ((),), Noise(updates, privacy.clip_norm, share, privacy.quantile, privacy.quantile_rate, bits)


def examples_of(config: ConfigDict) -> Privacy | tuple:
    """The numbers of steps that are private for each example; () where they are not."""
    if config.privacy.mechanism != "dpsgd":
        return ()
    return Privacy(config.privacy.clip_norm, budget_of(config).noise)


def spent_after(config: ConfigDict, rounds: int) -> dict[str, float]:
    """What a line of metrics.jsonl says of the rounds so far; nothing without privacy."""
    return {SPENT: budget_of(config).after(rounds)} if private(config) else {}


def told(config: ConfigDict) -> dict:
    """What the entry of a federated row says of its guarantee; nothing without one."""
    if not private(config):
        return {}
    budget, privacy = budget_of(config), config.privacy
    epsilon = budget.after(config.rounds)
    whose = NEIGHBOURS.get(budget.exposure.sampling, "federations that differ in one client more or less")
    if privacy.mechanism == "dpsgd":
        whose = "clients that differ in one example more or less"
    what = (
        "all that a client sends" if privacy.mechanism in ("local", "dpsgd") else "what the server makes of the updates"
    )
    sentence = (
        f"With {LABELS[privacy.mechanism]}, {what} is differentially private for {whose}: "
        f"epsilon {epsilon:.3g} at delta {privacy.delta:g} after {config.rounds} rounds (noise multiplier "
        f"{budget.noise:.4g}, {privacy.accountant.upper()} accountant). Losses, drift and accuracies in this report "
        "are the simulator's own and not covered, nor is the choice of settings by them."
    )
    numbers = {"epsilon": epsilon, "delta": privacy.delta, "noise_multiplier": budget.noise}
    return numbers | {"guarantee": sentence}
