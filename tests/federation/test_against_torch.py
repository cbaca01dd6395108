"""A federation equals a plain PyTorch loop (`torch_reference`) to 1e-5."""

import pytest
from torch_comparison import assert_same, our_federation
from torch_reference import (
    ROUNDS,
    Case,
    Settings,
    full_batches,
    make_case,
    replayed_batches,
    torch_federation,
)

pytestmark = pytest.mark.quick

ADAMW = Settings("adamw", learning_rate=3e-3, weight_decay=0.1, momentum=0.0, epochs=3)
SGD = Settings("momentum", learning_rate=0.05, weight_decay=0.01, momentum=0.9, epochs=3)
PLAIN_SGD = Settings("sgd", learning_rate=0.2, weight_decay=0.0, momentum=0.0, epochs=3)


@pytest.fixture
def small_case(make_bank) -> Case:
    """60 rows of 4 classes at 5 clients; N = 4, K = 3, D = 8. The logit scale is small, so that no loss vanishes."""
    return make_case(make_bank(metadata='{"logit_scale": 10}'), clients=5, keys_per_class=3, alpha=3.0, beta=2.0)


@pytest.mark.parametrize("settings", [ADAMW, SGD, PLAIN_SGD], ids=["adamw", "sgd_momentum_decay", "sgd"])
def test_three_rounds_of_full_batches_equal_torch(small_case, settings):
    cohorts = [list(range(small_case.partition.clients))] * ROUNDS
    reference = torch_federation(small_case, settings, cohorts, full_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_three_rounds_on_real_clip_features_equal_torch(real_bank, settings):
    case = make_case(real_bank("caltech101_68"), clients=10, keys_per_class=2, alpha=10.0, beta=1.0)
    cohorts = [list(range(10))] * ROUNDS
    reference = torch_federation(case, settings, cohorts, full_batches)
    assert_same(case, our_federation(case, settings, cohorts), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_given_cohorts_are_averaged_by_their_own_samples_alone(small_case, settings):
    cohorts = [[3, 1], [2], [0, 4, 3, 1]]
    reference = torch_federation(small_case, settings, cohorts, full_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_mini_batches_follow_the_documented_order_and_the_smaller_last_one_is_averaged_over_what_it_has(
    small_case, settings
):
    settings = settings._replace(batch_size=4)
    assert any(size % 4 for size in small_case.partition.sizes)
    cohorts = [list(range(5))] * ROUNDS
    reference = torch_federation(small_case, settings, cohorts, replayed_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)
