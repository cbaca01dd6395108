"""Canaries in real rounds: what they move, and that audits by them find what there is to find, and no more."""

import jax
import numpy as np
import pytest
import scipy.stats
from dp_accounting import get_epsilon_gaussian

from cachefl_jax.federation import Federation, Mechanism, PartHyper
from cachefl_jax.federation.examples import Privacy
from cachefl_jax.privacy.accounting import Exposure, calibrated
from cachefl_jax.privacy.audit import canary, scores
from cachefl_jax.privacy.audit.trials import in_and_out, run_trials
from cachefl_jax.privacy.matrix import matrix, sensitivity
from cachefl_jax.privacy.noise import Noise, bound, gaussian, local_noise, mean_of_expected

pytestmark = pytest.mark.quick

SIZES, ROUNDS, DELTA, CONFIDENCE = [3, 4, 2], 2, 1e-5, 0.95
S, E = 0.2, 3.0
TRIALS = 1000
Z = calibrated(Exposure("full", 3, 3, delta=DELTA), 2.0, ROUNDS)


def floats(tree):
    return jax.tree.map(np.float32, tree)


@pytest.fixture(scope="module")
def run_of(make_federation, make_local):
    """(federation's parts, PartHyper, local training) -> a `canary.Run`."""
    ours = make_federation(SIZES)

    def make(parts: dict, hyper: PartHyper, **local) -> canary.Run:
        training = make_local(4, 4, optimizer="sgd", epochs=1, **local)
        host = jax.device_get(ours.problem._replace(key=None, part_hyper=floats(hyper)))
        run = canary.Run(Federation(training, **parts), ours.params, host._replace(key=jax.random.key(0)), ROUNDS)
        return canary.one_version(run)

    return make


def central(mechanism=gaussian) -> dict:
    return {"transforms": (bound,), "aggregation": mean_of_expected(E), "mechanism": mechanism}


def numbers(noise: float) -> PartHyper:
    return PartHyper((S,), (), Noise(noise, S, E))


def in_half(release):
    """A mechanism that adds half of the noise that it was told to add."""

    def weaker(aggregate, state, given):
        hyper = given.hyper._replace(multiplier=given.hyper.multiplier / 2)
        return release(aggregate, state, given._replace(hyper=hyper))

    return Mechanism(weaker)


def both_bounds(seen) -> tuple[float, float]:
    inside, outside = (rounds.sum(axis=1) for rounds in seen)
    given = inside, outside, DELTA, CONFIDENCE
    return scores.any_mechanism(*given), scores.gaussian_mechanism(*given)


def test_a_canary_moves_each_aggregate_by_its_bound(run_of):
    run = run_of(central(), numbers(0.0))
    inside, outside = in_and_out(canary.canary_client(run, canary.BEYOND * S, 0), 2, 0)
    np.testing.assert_allclose((inside - outside)[:, 0], S / E, rtol=0.02)  # others' orders are chance, too


@pytest.mark.parametrize(("out", "times"), [(-1.0, 2), (0.0, 1)])
def test_one_that_is_replaced_moves_it_by_what_it_is_replaced_with(run_of, out, times):
    run = run_of(central(), numbers(0.0))
    inside, outside = in_and_out(canary.canary_client(run, canary.BEYOND * S, 0, out=out), 2, 0)
    np.testing.assert_allclose((inside - outside)[:, 0], times * S / E, rtol=0.02)


def test_without_noise_a_canary_is_told(run_of):
    assert both_bounds(in_and_out(canary.canary_client(run_of({}, PartHyper()), 0.0, 0), TRIALS, 0))[0] > 5


def test_what_is_promised_is_not_refuted_in_20_audits(run_of):
    audited, each = canary.canary_client(run_of(central(), numbers(Z)), canary.BEYOND * S, 0), 250
    seen = in_and_out(audited, 20 * each, 0)
    found = [both_bounds([rounds[at : at + each] for rounds in seen]) for at in range(0, 20 * each, each)]
    assert np.max(found) < 2
    assert np.mean(found, axis=0)[1] > 0.1  # and they do find something
    whole = both_bounds(seen)
    assert 1.4 < whole[1] < 2


def test_half_the_noise_is_refuted(run_of):
    run = run_of(central(in_half(gaussian.release)), numbers(Z))
    seen = in_and_out(canary.canary_client(run, canary.BEYOND * S, 0), TRIALS, 0)
    assert both_bounds(seen)[1] > 2


@pytest.mark.parametrize("kind", ["matrix", "local"])
def test_what_is_told_has_the_strength_that_the_accountant_reckons_with(run_of, kind):
    """The distance of the scores' means over their deviation is that of the mechanism."""
    if kind == "matrix":
        factor = sensitivity(2, ROUNDS, 1)
        run, own, out, bands = run_of(central(matrix(2)), numbers(Z * factor)), False, None, 2
        due = 1 / Z
    else:
        run = run_of({"transforms": (local_noise,)}, PartHyper((Noise(2 * Z, S, 1.0),)))
        own, out, bands, due = True, -1.0, 0, np.sqrt(ROUNDS) / Z
    seen = in_and_out(canary.canary_client(run, canary.BEYOND * S, 0, out, own), 400, 0)
    inside, outside = (scores.weigh_rounds(rounds, np.ones(ROUNDS), bands) for rounds in seen)
    found = (inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2)
    assert abs(found - due) < 4 * np.sqrt(2 / 400)


@pytest.mark.parametrize(("share", "refuted"), [(1.0, False), (0.5, True)])
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "any"])
def test_an_example_is_audited_in_private_steps(run_of, share, refuted, linear):
    more = {} if linear else {"linear": None}
    run = run_of({}, PartHyper(examples=Privacy(0.05, share * Z)), private=True, **more)
    seen = in_and_out(canary.canary_example(run, 0), TRIALS, 0)
    found = both_bounds(seen)[1]
    assert found > 2 if refuted else 0.5 < found < 2


def test_many_canaries_are_told_in_one_run(run_of):
    many = canary.canary_clients(run_of({}, PartHyper()), 0.0, 1000, 3, 0)
    inside = np.random.default_rng(0).random(5 * 3 * 8) < 0.5  # no more than numbers in an update
    seen = run_trials(many, jax.random.split(jax.random.key(0), 1), inside[None])[0].sum(axis=0)
    assert seen.shape == inside.shape
    assert np.median(seen[inside]) > seen[~inside].max()
    assert scores.in_one_run(seen, inside, DELTA, CONFIDENCE) > 1.5
    again = np.random.default_rng(1).random(len(inside)) < 0.5
    assert scores.in_one_run(seen, again, DELTA, CONFIDENCE) < 0.5  # coins that it did not follow


@pytest.mark.parametrize("mu", [0.5, 1.0, 3.0])
def test_a_gaussian_bound_holds_and_is_near(mu):
    due, draw = get_epsilon_gaussian(1 / mu, DELTA), np.random.default_rng(0)

    def found(trials):
        return scores.gaussian_mechanism(draw.normal(mu, 1, trials), draw.normal(0, 1, trials), DELTA, CONFIDENCE)

    assert np.mean([found(100) > due for _ in range(200)]) < 1 - CONFIDENCE
    assert 0.8 * due < found(100_000) < due


def test_a_coin_is_weighed_as_a_likelihood_ratio_does():
    seen, share, noise = np.random.default_rng(0).normal(size=(7, 4)), 0.3, 1.7
    there, not_there = (scipy.stats.norm(mean, noise).pdf(seen) for mean in (1, 0))
    due = np.log((share * there + (1 - share) * not_there) / not_there).sum(axis=1)
    np.testing.assert_allclose(scores.by_a_coin(seen, share, noise), due, rtol=1e-10)
