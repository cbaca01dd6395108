"""Attacks on membership: halves that are halves, ratios by a plain loop, and nothing found where nothing is to be."""

import jax
import numpy as np
import pytest
import scipy.stats

from cachefl_jax.federation import Clients, Federation
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.privacy.audit import canary
from cachefl_jax.privacy.audit.membership import draw_halves, figures, ratios, shadow_confidences

pytestmark = pytest.mark.quick

SIZES, SHADOWS = [7, 12, 1, 9, 4], 24


@pytest.fixture(scope="module")
def shadows(make_federation, make_local):
    """(learning rate) -> (confidences [S, T, A], inside [S, A]) of every row."""
    ours = make_federation(SIZES)

    def make(rate: float):
        host = jax.device_get(ours.problem._replace(key=None))
        problem = host._replace(key=jax.random.key(0), hyper=host.hyper._replace(learning_rate=np.float32(rate)))
        federation = Federation(make_local(4, 12, optimizer="sgd", epochs=1))
        halves = draw_halves(problem.clients, SHADOWS, 0)
        rows, run = np.arange(sum(SIZES)), canary.Run(federation, ours.params, problem, 20)
        return np.asarray(shadow_confidences(run, cachefl.logits, halves, (rows, np.array([5, 20])), 0)), halves.inside

    return make


def test_halves_are_of_every_client_and_of_no_other():
    order = np.random.default_rng(1).permutation(sum(SIZES)).astype(np.int32)
    clients = Clients(np.append(0, np.cumsum(SIZES)).astype(np.int32), order)
    halves = draw_halves(clients, 400, 0)
    sizes = np.diff(halves.clients.offsets)
    assert (np.abs(sizes - np.array(SIZES) / 2) <= 0.5).all()
    for client, (begin, end) in enumerate(zip(halves.clients.offsets[:-1], halves.clients.offsets[1:], strict=True)):
        own = order[clients.offsets[client] : clients.offsets[client + 1]]
        taken = halves.clients.indices[:, begin:end]
        assert all(len(set(row)) == len(row) and set(row) <= set(own) for row in taken.tolist())
        expected = sizes[client] / SIZES[client]
        assert np.abs(halves.inside[:, own].mean(axis=0) - expected).max() <= 5 * np.sqrt(0.25 / 400)
    assert (halves.inside.sum(axis=1) == sizes.sum()).all()


def test_ratios_are_those_of_a_plain_loop():
    draw = np.random.default_rng(0)
    confidences, inside = draw.normal(size=(6, 2, 3)), np.zeros((6, 3), bool)
    inside[[0, 1, 2], 0] = inside[[1, 3, 5], 1] = inside[[0, 2, 4, 5], 2] = True
    means = np.empty((2, 6, 2, 3))
    for target, model, row in np.ndindex(6, 2, 3):
        for member in (0, 1):
            others = [s for s in range(6) if s != target and inside[s, row] == member]
            means[member, target, model, row] = confidences[others, model, row].mean()
    due = np.zeros((6, 3))
    for member, sign in ((1, 1), (0, -1)):
        for model in (0, 1):
            gaps = [(confidences - means[member])[s, model, a] for s, a in np.argwhere(inside == member)]
            deviation = np.sqrt(np.mean(np.square(gaps)))
            due += sign * scipy.stats.norm.logpdf(confidences[:, model], means[member, :, model], deviation)
    np.testing.assert_allclose(ratios(confidences, inside), due, rtol=1e-9)


def test_members_of_a_federation_that_overfits_are_found(shadows):
    confidences, inside = shadows(0.3)
    found = figures(ratios(confidences, inside), inside)
    assert found["auc"]["mean"] - found["auc"]["half"] > 0.6
    assert found["tpr_at_1_in_100"]["mean"] > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_coins_that_nobody_followed_are_not_found(shadows, seed):
    confidences, _ = shadows(0.3) if seed == 0 else (np.random.default_rng(seed).normal(size=(SHADOWS, 2, 33)), None)
    inside = np.random.default_rng(seed).random((SHADOWS, sum(SIZES))) < 0.5
    area = figures(ratios(confidences, inside), inside)["auc"]
    assert abs(area["mean"] - 0.5) < 2 * area["half"]


def test_figures_are_those_of_pairs():
    draw = np.random.default_rng(0)
    scores, inside = draw.normal(size=(4, 50)), draw.random((4, 50)) < 0.4
    areas = [np.mean(row[own][:, None] > row[~own][None]) for row, own in zip(scores, inside, strict=True)]
    found = figures(scores, inside)["auc"]
    np.testing.assert_allclose(found["mean"], np.mean(areas), rtol=1e-12)
    np.testing.assert_allclose(found["half"], 1.96 * np.std(areas, ddof=1) / 2, rtol=1e-12)
