"""Each scheme deals by the law that it names: expectations and variances against their formulas."""

import numpy as np
import pytest
from counting import class_counts
from scipy import stats

from cachefl_jax.config import default
from cachefl_jax.data.mixes import lottery, mixes, wish
from cachefl_jax.data.partition import make_partition
from cachefl_jax.data.schemes import apportion, dirichlet_shares, draw_shares, log_normal, power_law


def settings_of(name: str, clients: int, **changes):
    config = default().partition
    config.update({"name": name, "clients": clients, **changes})
    return config


def labels_of(classes: int, per_class: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))


def counts_of(classes: int, per_class: int, config, seed: int = 0) -> np.ndarray:
    labels = labels_of(classes, per_class)
    return class_counts(make_partition(labels, config, seed), labels, classes)


def effective(counts: np.ndarray) -> float:
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-30))).sum(axis=1)).mean())


def test_iid_shares_differ_by_at_most_one_row():
    sizes = counts_of(10, 33, settings_of("iid", 7)).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(("name", "changes"), [("iid", {}), ("quantity", {}), ("quantity", {"quantity": "power_law"})])
def test_labels_are_independent_of_clients(name, changes):
    """The chi-square statistic of the clients x classes table, over 200 seeds, has its own distribution."""
    config = settings_of(name, 5, least=60, **changes)  # enough rows in every cell for the approximation
    tables = [counts_of(4, 300, config, seed) for seed in range(200)]
    values = [stats.chi2_contingency(table, correction=False).pvalue for table in tables]
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_dirichlet_shares_of_classes_follow_the_distribution():
    """The share of a class at one client has mean 1/C and variance (1/C)(1 - 1/C)/(C a + 1), Dirichlet's own."""
    clients, concentration, classes, per_class = 5, 0.5, 400, 200
    shares = counts_of(classes, per_class, settings_of("dirichlet", clients, concentration=concentration)) / per_class
    expected = (1 / clients) * (1 - 1 / clients) / (clients * concentration + 1)
    assert abs(shares.mean() - 1 / clients) < 1e-9
    assert abs(shares.var() / expected - 1) < 0.1


@pytest.mark.parametrize("over", ["classes", "clients"])
def test_smaller_concentrations_leave_clients_fewer_classes(over):
    values = [
        effective(counts_of(10, 100, settings_of("dirichlet", 20, over=over, concentration=concentration)))
        for concentration in (0.01, 0.3, 3.0, 1000.0)
    ]
    assert values == sorted(values)
    assert values[0] < 2
    assert values[-1] > 9


@pytest.mark.parametrize("concentration", [1e-300, 1e-6, 1e6, 1e300])
def test_shares_are_finite_at_any_concentration(concentration):
    shares = draw_shares(np.random.default_rng(0), 50, concentration)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(), 1)


def mixes_written_down(rng, labels: np.ndarray, clients: int, concentration: float) -> np.ndarray:
    """Class counts [C, N] of the same rule with each client's mix in an array, row by row."""
    left = np.bincount(labels)
    weights = rng.dirichlet(concentration * left / len(labels), size=clients) + 1e-300
    holders, counts = rng.permutation(np.arange(len(labels)) % clients), np.zeros((clients, len(left)), int)
    while len(holders):
        ends = np.cumsum(np.where(left > 0, weights[holders], 0), axis=1)
        wishes = (rng.random(len(holders))[:, None] * ends[:, -1:] < ends).argmax(axis=1)
        waiting = []
        for holder, wished in zip(holders, wishes, strict=True):
            if left[wished] > 0:
                left[wished] -= 1
                counts[holder, wished] += 1
            else:
                waiting.append(holder)
        holders = rng.permutation(np.array(waiting, int))
    return counts


@pytest.mark.parametrize("concentration", [0.5, 5.0, 50.0])
def test_the_urn_draws_as_mixes_that_are_written_down(concentration):
    """Mean effective classes over 150 seeds each, uneven classes, within four standard errors."""
    labels = np.repeat(np.arange(6), [200, 100, 50, 50, 60, 40])
    ours, theirs = np.zeros((2, 150))
    for seed in range(150):
        owners = mixes(np.random.default_rng((1, seed)), labels, 20, concentration)
        table = np.zeros((20, 6), int)
        np.add.at(table, (owners, labels), 1)
        assert (table.sum(axis=1) == 25).all()
        ours[seed] = effective(table)
        theirs[seed] = effective(mixes_written_down(np.random.default_rng((2, seed)), labels, 20, concentration))
    error = np.sqrt((ours.var() + theirs.var()) / 150)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert error < 0.1


def test_a_mix_has_the_moments_of_its_dirichlet():
    """While no class has run out, the share of class k at a client of s rows has mean p and variance
    p (1 - p) (a + s) / (s (a + 1)), the Dirichlet-multinomial's."""
    prior, concentration, size, clients = np.array([0.5, 0.3, 0.2]), 2.0, 50, 4000
    holder = np.repeat(np.arange(clients), size)
    places, wishes = wish(np.random.default_rng(0), holder, np.full(len(holder), -1), prior, concentration)
    shares = np.bincount(holder[places] * 3 + wishes, minlength=clients * 3).reshape(clients, 3) / size
    np.testing.assert_allclose(shares.mean(axis=0), prior, atol=0.02)
    expected = prior * (1 - prior) * (concentration + size) / (size * (concentration + 1))
    np.testing.assert_allclose(shares.var(axis=0), expected, rtol=0.06)


def test_the_lottery_meets_as_many_wishes_as_are_left_and_prefers_nobody():
    wishes, left = np.array([0, 1, 1, 1, 2, 1]), np.array([5, 2, 1])
    met = np.zeros(6)
    for seed in range(2000):
        chosen = lottery(np.random.default_rng(seed), wishes, left)
        assert len(set(chosen)) == len(chosen) == 4
        met[chosen] += 1
    np.testing.assert_array_equal(met[[0, 4]], 2000)
    np.testing.assert_allclose(met[[1, 2, 3, 5]] / 2000, 0.5, atol=0.05)


@pytest.mark.parametrize(("clients", "held"), [(10, 2), (7, 3), (20, 1), (3, 10)])
def test_pathological_clients_hold_few_classes_and_all_classes_are_held(clients, held):
    counts = counts_of(10, 60, settings_of("pathological", clients, classes_per_client=held))
    assert (counts > 0).sum(axis=1).max() <= held
    assert (counts.sum(axis=0) == 60).all()


@pytest.mark.parametrize(("clients", "each"), [(10, 2), (20, 1), (7, 3)])
def test_shards_are_equal_runs_of_the_sorted_labels(clients, each):
    counts = counts_of(10, 63, settings_of("shards", clients, shards_per_client=each))
    sizes = counts.sum(axis=1)
    assert sizes.max() - sizes.min() <= each
    # A shard that is no longer than a class meets two of them at the most.
    assert (counts > 0).sum(axis=1).max() <= 2 * each


def test_shards_of_whole_classes_are_dealt_whole():
    counts = counts_of(10, 40, settings_of("shards", 5, shards_per_client=4))
    assert (counts % 20 == 0).all()
    assert counts.max() >= 20


def test_sizes_of_the_log_normal_law():
    """log size has a standard deviation of `spread`, and its ends fall where a normal's do."""
    shares = log_normal(np.random.default_rng(0), settings_of("quantity", 5000, spread=0.7))
    logs = np.log(shares) - np.log(shares).mean()
    assert abs(logs.std() / 0.7 - 1) < 0.04
    assert stats.kstest(logs / logs.std(), "norm").pvalue > 0.01


def test_sizes_of_the_power_law():
    shares = power_law(np.random.default_rng(0), settings_of("quantity", 100, spread=1.5))
    np.testing.assert_allclose(np.sort(shares)[::-1] / shares.max(), np.arange(1, 101) ** -1.5)
    assert not np.array_equal(np.sort(shares)[::-1], shares)


def test_sizes_of_the_dirichlet_law():
    config = settings_of("quantity", 10, quantity="dirichlet", concentration=0.8)
    shares = np.array([dirichlet_shares(np.random.default_rng(seed), config) for seed in range(2000)])
    # One of ten shares of Dirichlet(0.8, ..., 0.8) is Beta(0.8, 7.2).
    assert stats.kstest(shares[:, 3], "beta", args=(0.8, 7.2)).pvalue > 0.01


@pytest.mark.parametrize("quantity", ["log_normal", "power_law"])
def test_without_spread_sizes_are_equal(quantity):
    sizes = counts_of(10, 20, settings_of("quantity", 8, quantity=quantity, spread=0.0)).sum(axis=1)
    assert (sizes == 25).all()


def test_sizes_are_their_shares_to_less_than_a_row():
    shares = np.random.default_rng(0).dirichlet(np.ones(300))
    sizes = apportion(shares, 1000)
    assert sizes.sum() == 1000
    assert np.abs(sizes - 1000 * shares).max() < 1
