"""The part `canaries`: a client, or an example, that is in or out, and how well that can be told."""

from typing import NamedTuple

import jax
import numpy as np

from cachefl_jax.config.privacy import sampled
from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.audit import canary, scores, words
from cachefl_jax.privacy.audit.part import Context, Section
from cachefl_jax.privacy.audit.trials import in_and_out, run_trials

MOST = 1000  # canaries in one run
ABSENT, OPPOSITE, ZEROS = "it is absent", "it sends the opposite", "it sends zeros"


class Attack(NamedTuple):
    """How a canary gets in, and who sees what of it."""

    what: str  # client or example
    out: str  # what it is to be out
    sees: str  # update or aggregate


def canaries(context: Context) -> tuple[dict, Section]:
    """An empirical epsilon, beside the promised one. Raises UsageError: jax-privacy is not installed, or clients send
    more than the change of their params."""
    scores.check_package()
    check_work(context)
    attack, run = attack_on(context), canary.run_of(context.learner, context.config.rounds)
    delta, confidence = context.config.privacy.delta, context.settings.confidence
    seen = in_and_out(audited(context, run, attack), context.settings.trials, context.settings.seed)
    inside, outside = (score(context, run, rounds) for rounds in seen)
    found = {
        "canary": attack.what, "out": attack.out, "sees": attack.sees, "trials": 2 * context.settings.trials,
        "confidence": confidence, "delta": delta,
        "epsilon_at_least": scores.any_mechanism(inside, outside, delta, confidence),
        "epsilon_at_least_gaussian": scores.gaussian_mechanism(inside, outside, delta, confidence)
        if is_gaussian(context) else None,
        "one_run": one_run(context, run, attack),
        "epsilon_promised": context.budget and context.budget.after(run.rounds),
    }  # fmt: skip
    known = [found[name] for name in ("epsilon_at_least", "epsilon_at_least_gaussian")]
    strongest = known[0] if known[1] is None else known[1]
    found["refuted"] = None if context.budget is None else bool(strongest > found["epsilon_promised"])
    return found, words.canaries(found, inside, outside)


def check_work(context: Context) -> None:
    """Raises UsageError: an update is more than a change of the params."""
    if context.learner.local.work.update is not None:
        name, allowed = context.config.local.algorithm, "an algorithm whose updates are changes of the params"
        raise UsageError("local.algorithm", name, allowed, "leave canaries out of --parts")


def attack_on(context: Context) -> Attack:
    """The worst case of what the run's noise is for."""
    mechanism, budget = context.config.privacy.mechanism, context.budget
    if mechanism == "dpsgd":
        return Attack("example", "it does not count", "update")
    if mechanism == "local":
        return Attack("client", OPPOSITE, "update")
    if mechanism == "distributed":
        return Attack("client", ZEROS, "aggregate")
    if budget is not None and budget.exposure.sampling == "cohort":
        return Attack("client", OPPOSITE, "aggregate")
    return Attack("client", ABSENT, "aggregate")


def is_gaussian(context: Context) -> bool:
    """Whether all rounds together are one Gaussian mechanism: nobody comes by chance, and noise is no integer."""
    return context.budget is not None and context.budget.exposure.sampling not in ("poisson", "cohort", "distributed")


def length_of(context: Context) -> float:
    """Of a canary's update: beyond the bound, where there is one; else that of the client's own update."""
    return canary.BEYOND * context.config.privacy.clip_norm if context.budget else 0.0


def audited(context: Context, run: canary.Run, attack: Attack) -> canary.Audited:
    """The run with its canary."""
    if attack.what == "example":
        return canary.canary_example(run, context.settings.seed)
    return canary.canary_client(
        run, length_of(context), context.settings.seed,
        out={OPPOSITE: -1.0, ZEROS: 0.0}.get(attack.out), own=attack.sees == "update",
    )  # fmt: skip


def score(context: Context, run: canary.Run, seen: np.ndarray) -> np.ndarray:
    """One number a trial, [T], from what is seen in its rounds, [T, R]."""
    budget, comes = context.budget, np.ones(run.rounds)
    if budget is None:
        return scores.weigh_rounds(seen, comes)
    exposure = budget.exposure
    if exposure.sampling == "poisson" and budget.noise:
        unit = context.config.privacy.clip_norm / exposure.cohort
        return scores.by_a_coin(seen / unit, exposure.cohort / exposure.clients, budget.noise)
    if exposure.sampling == "cyclic":
        turn = canary.last_client(run.problem.clients) // exposure.cohort
        comes = (np.arange(run.rounds) % exposure.separation == turn).astype(float)
    return scores.weigh_rounds(seen, comes, budget.bands)


def one_run(context: Context, run: canary.Run, attack: Attack) -> dict | None:
    """The audit in one run; None where canaries cannot come beside the run's clients without changing what these do."""
    exposure = context.budget and context.budget.exposure
    sampling = exposure.sampling if exposure else sampled(context.config)
    beside = sampling in ("full", "poisson") and not run.problem.schedule
    if attack != Attack("client", ABSENT, "aggregate") or not beside:
        return None
    rows = 1 if context.budget else int(np.median(context.learner.client_rows))
    many = canary.canary_clients(run, length_of(context), MOST, max(rows, 1), context.settings.seed)
    draw = np.random.default_rng(context.settings.seed)
    inside = draw.random(len(many.run.problem.server[1])) < 0.5
    keys = jax.random.split(jax.random.fold_in(jax.random.key(context.settings.seed), 1), 1)
    seen = run_trials(many, keys, inside[None])[0]
    found = scores.weigh_rounds(seen.T, np.ones(run.rounds), context.budget.bands if context.budget else 0)
    epsilon = scores.in_one_run(found, inside, context.config.privacy.delta, context.settings.confidence)
    return {"canaries": len(inside), "in": int(inside.sum()), "epsilon_at_least": epsilon}
