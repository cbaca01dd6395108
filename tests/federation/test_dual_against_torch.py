"""SGD with momentum, Nesterov's step, weight decay, FedProx's term and clipping equal a plain PyTorch loop to 1e-5.

One client after another on the parameters, and clients side by side on coefficients.
"""

import math

import numpy as np
import pytest
from torch_comparison import assert_same, our_federation
from torch_reference import ROUNDS, Case, Settings, make_case, replayed_batches, torch_federation

from cachefl_jax.federation import Plan

pytestmark = pytest.mark.quick

# Between the smallest and the largest norms that are met: some steps are clipped, and some are not.
SGD = Settings(
    "sgd", learning_rate=0.1, weight_decay=0.05, momentum=0.0, epochs=3, batch_size=4, proximal=0.5, clip_norm=0.05
)
MOMENTUM = SGD._replace(optimizer="momentum", learning_rate=0.02, momentum=0.9)
NESTEROV = MOMENTUM._replace(optimizer="nesterov")
SCAN, DUAL, DUAL_ON_2 = Plan("scan"), Plan("dual", 2, block_rows=40), Plan("dual", 3, devices=2, block_rows=32)


@pytest.fixture
def make_small(make_bank):
    """(D) -> 60 rows of 4 classes at 5 clients; N = 4, K = 3."""

    def make(width: int) -> Case:
        bank = make_bank(width=width, metadata='{"logit_scale": 10}')
        return make_case(bank, clients=5, keys_per_class=3, alpha=3.0, beta=2.0)

    return make


def everybody(case: Case) -> list[list[int]]:
    return [list(range(case.partition.clients))] * ROUNDS


@pytest.mark.parametrize(
    ("settings", "plan"),
    [(SGD, SCAN), (SGD, DUAL), (MOMENTUM, SCAN), (MOMENTUM, DUAL_ON_2), (NESTEROV, SCAN), (NESTEROV, DUAL)],
    ids=["sgd_scan", "sgd_dual", "momentum_scan", "momentum_dual_on_2", "nesterov_scan", "nesterov_dual"],
)
def test_three_rounds_of_mini_batches_equal_torch(make_small, settings, plan):
    case = make_small(32)
    assert case.partition.sizes.max() <= 32, "all of them on coefficients"
    cohorts = everybody(case)
    reference = torch_federation(case, settings, cohorts, replayed_batches)
    assert_same(case, our_federation(case, settings, cohorts, plan=plan), reference)


def test_clients_too_large_for_coefficients_train_beside_the_others_and_equal_torch(make_small):
    case = make_small(12)
    assert 0 < (case.partition.sizes > 12).sum() < 4
    cohorts = [[4, 2], [0, 1, 2, 3, 4], [3, 0]]
    reference = torch_federation(case, NESTEROV, cohorts, replayed_batches)
    assert_same(case, our_federation(case, NESTEROV, cohorts, plan=DUAL), reference)


@pytest.mark.parametrize("settings", [SGD, NESTEROV], ids=lambda settings: settings.optimizer)
def test_coefficients_on_real_clip_features_equal_torch(real_bank, settings):
    case = make_case(real_bank("caltech101_68"), clients=10, keys_per_class=2, alpha=10.0, beta=1.0)
    settings = settings._replace(batch_size=32, proximal=0.05, clip_norm=0.4)
    plan = Plan("dual", 3, block_rows=512)
    reference = torch_federation(case, settings, everybody(case), replayed_batches)
    assert_same(case, our_federation(case, settings, everybody(case), plan=plan), reference)


@pytest.mark.parametrize(
    "other",
    [
        {"momentum": 0.1},
        {"optimizer": "momentum"},
        {"weight_decay": 0.0},
        {"proximal": 0.0},
        {"clip_norm": math.inf},
        {"clip_norm": 0.01},
    ],
    ids=lambda other: "_".join(map(str, *other.items())),
)
def test_each_of_these_numbers_decides_where_the_reference_goes(make_small, other):
    """Without this, the tests above would pass where one of them is never read."""
    case = make_small(32)
    usual, changed = (
        torch_federation(case, settings, everybody(case), replayed_batches)[0]
        for settings in (NESTEROV, NESTEROV._replace(**other))
    )
    assert np.abs(usual - changed).max() > 1e-3
