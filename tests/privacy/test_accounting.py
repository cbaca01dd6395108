"""What rounds spend equals what dp-accounting says of the events that they are."""

import math

import pytest
from dp_accounting import NeighboringRelation, dp_event, get_epsilon_gaussian, pld, rdp

from cachefl_jax.privacy.accounting import Exposure, calibrated, most_rounds, spent

ONE, OTHER = NeighboringRelation.ADD_OR_REMOVE_ONE, NeighboringRelation.REPLACE_ONE
GAUSSIAN = dp_event.GaussianDpEvent
# exposure, noise multiplier, rounds; the event of one release, how many there are, the relation.
CASES = [
    (Exposure("full", 20, 20), 4.0, 12, GAUSSIAN(4.0), 12, ONE),
    (Exposure("full", 20, 20, "rdp"), 4.0, 12, GAUSSIAN(4.0), 12, ONE),
    (Exposure("full", 20, 20, delta=1e-3), 1.0, 1, GAUSSIAN(1.0), 1, ONE),
    (Exposure("poisson", 100, 5), 1.0, 40, dp_event.PoissonSampledDpEvent(0.05, GAUSSIAN(1.0)), 40, ONE),
    (Exposure("poisson", 100, 5, "rdp"), 1.0, 40, dp_event.PoissonSampledDpEvent(0.05, GAUSSIAN(1.0)), 40, ONE),
    (Exposure("poisson", 10, 5, delta=1e-6), 3.0, 7, dp_event.PoissonSampledDpEvent(0.5, GAUSSIAN(3.0)), 7, ONE),
    (
        Exposure("cohort", 100, 5, "rdp"), 2.0, 40,
        dp_event.SampledWithoutReplacementDpEvent(100, 5, GAUSSIAN(1.0)), 40, OTHER,
    ),
    (Exposure("cyclic", 100, 30), 2.0, 9, GAUSSIAN(2.0), 3, ONE),
    (Exposure("cyclic", 100, 30, "rdp"), 2.0, 4, GAUSSIAN(2.0), 1, ONE),
    (Exposure("full", 20, 5, releases=3), 6.0, 4, GAUSSIAN(6.0), 12, ONE),
    (Exposure("local", 20, 5), 6.0, 10, GAUSSIAN(3.0), 10, ONE),
]  # fmt: skip


@pytest.mark.parametrize(("exposure", "noise", "rounds", "event", "count", "relation"), CASES)
def test_epsilon_is_dp_accountings(exposure, noise, rounds, event, count, relation):
    own = pld.PLDAccountant(relation) if exposure.accountant == "pld" else None
    own = own or rdp.RdpAccountant(neighboring_relation=relation)
    expected = own.compose(event, count).get_epsilon(exposure.delta)
    assert spent(exposure, noise, rounds) == pytest.approx(expected, abs=1e-6)


def test_a_gaussian_release_spends_what_the_exact_formula_says():
    exact = get_epsilon_gaussian(4.0 / math.sqrt(12), 1e-5)
    assert exact - 1e-6 <= spent(CASES[0][0], 4.0, 12) <= exact + 1e-3


def test_no_noise_spends_everything_and_no_round_nothing():
    exposure = Exposure("full", 4, 4)
    assert spent(exposure, 0.0, 1) == math.inf
    assert spent(exposure, 1.0, 0) == 0


@pytest.mark.parametrize(("exposure", "epsilon"), [(Exposure("full", 9, 9, "rdp"), 2.0),
                                                  (Exposure("poisson", 50, 5), 1.0),
                                                  (Exposure("full", 9, 9, "rdp"), 500.0)])  # fmt: skip
def test_noise_is_the_least_that_a_budget_allows(exposure, epsilon):
    noise = calibrated(exposure, epsilon, 20)
    assert spent(exposure, noise, 20) <= epsilon < spent(exposure, noise * (1 - 5e-4), 20)


def test_rounds_within_a_budget():
    exposure = Exposure("poisson", 50, 5, "rdp")
    rounds = most_rounds(exposure, 1.0, 3.0, 100)
    assert 0 < rounds < 100
    assert spent(exposure, 1.0, rounds) <= 3.0 < spent(exposure, 1.0, rounds + 1)
