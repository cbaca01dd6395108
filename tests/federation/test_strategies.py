"""Every strategy gives the keys that training one client after another on one device gives.

1e-6 where clients train on the parameters, 1e-5 where they train on coefficients, after having moved a thousand times
as far. A covering set: every static setting meets several plans, and every plan several settings.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Plan, plan_batches

pytestmark = pytest.mark.quick
WIDTH = 72
BATCH = 4
# None, one row, a batch, around the tile of 64 rows, as many as features have numbers, more (trained on parameters).
SIZES = [9, 0, 65, 1, 80, 64, 4, 63, 12, 72]
COHORTS = [list(range(10)), [4, 7, 1, 9, 3, 2, 5], [8, 0, 6], list(range(10))]
SCAN = Plan("scan")
# Of the clients on coefficients, sorted, two fill a block of 137 rows and each of the largest one of 72.
PLANS = {
    "scan_on_2": Plan("scan", devices=2),
    "scan_on_4": Plan("scan", devices=4),
    "chunk_of_2": Plan("chunk", 2),
    "chunk_of_3": Plan("chunk", 3),
    "chunk_of_4_on_2": Plan("chunk", 4, devices=2),
    "chunk_of_2_on_4": Plan("chunk", 2, devices=4),
    "vmap": Plan("vmap", 10),
    "vmap_on_2": Plan("vmap", 5, devices=2),
    "vmap_on_4": Plan("vmap", 3, devices=4),
    "dual_1": Plan("dual", 1, block_rows=72),
    "dual_3": Plan("dual", 3, block_rows=137),
    "dual_5": Plan("dual", 5, block_rows=500),
    "dual_16": Plan("dual", 16, block_rows=150),
    "dual_2_on_2": Plan("dual", 2, devices=2, block_rows=137),
    "dual_2_on_4": Plan("dual", 2, devices=4, block_rows=80),
}


class Setting(NamedTuple):
    """What is compiled into a client's training."""

    optimizer: str
    batch_size: int
    epochs: int
    shuffle: bool = True
    proximal: bool = False
    clip: bool = False


# Each with the plans that it meets.
COVERED = {
    Setting("sgd", BATCH, 3): "scan_on_2 dual_3 dual_2_on_4",
    Setting("sgd", 0, 1, clip=True): "vmap_on_4 dual_16",
    Setting("sgd", 1, 1, shuffle=False, proximal=True): "vmap dual_1",
    Setting("sgd", BATCH, 3, shuffle=False, proximal=True, clip=True): "chunk_of_3 dual_5",
    Setting("momentum", 0, 3, proximal=True, clip=True): "vmap_on_2 dual_3",
    Setting("momentum", BATCH, 1, shuffle=False): "scan_on_4 dual_2_on_2",
    Setting("nesterov", 1, 3, clip=True): "chunk_of_2 dual_5",
    Setting("nesterov", BATCH, 3, proximal=True): "chunk_of_4_on_2 dual_1 dual_2_on_4",
    Setting("adamw", BATCH, 3, proximal=True, clip=True): "chunk_of_2_on_4 vmap",
    Setting("adamw", 1, 1, shuffle=False): "chunk_of_3 scan_on_2",
}
MEETINGS = [(setting, plan) for setting, plans in COVERED.items() for plan in plans.split()]


class Found(NamedTuple):
    keys: np.ndarray
    loss: float  # of the last round
    moved: float  # the farthest that a key's number went


@pytest.fixture(scope="module")
def train(make_federation, make_local):
    """(setting, plan, weight decay) -> Found after a round for each cohort; remembered."""
    federation = make_federation(SIZES, WIDTH, scattered=True)

    @functools.cache
    def found(setting: Setting, plan: Plan, decay: float) -> Found:
        optimizer, batch_size, epochs, shuffle, proximal, clip = setting
        local = make_local(
            *plan_batches(batch_size, max(SIZES)), optimizer, epochs, shuffle=shuffle, proximal=proximal, clip=clip
        )
        rate = 3e-3 if optimizer == "adamw" else 0.5 if (batch_size, epochs) == (0, 1) else 0.05
        numbers = {"learning_rate": rate, "weight_decay": decay, "proximal": 2.0, "clip_norm": 0.2}
        hyper = federation.problem.hyper._replace(**{name: jnp.float32(x) for name, x in numbers.items()})
        state, metrics = federation.changed(hyper=hyper).train(local, COHORTS, plan)
        keys = np.asarray(state.params.keys)
        return Found(keys, float(metrics.train_loss), float(np.abs(keys - np.asarray(federation.params.keys)).max()))

    return found


@pytest.mark.parametrize(
    ("setting", "name"), MEETINGS, ids=lambda part: part if isinstance(part, str) else "_".join(map(str, part))
)
def test_a_strategy_gives_the_keys_of_one_client_after_another(train, setting, name):
    plan = PLANS[name]
    tolerance = 1e-5 if plan.strategy == "dual" else 1e-6
    for decay in (0.0, 0.1):  # traced: the second compiles nothing
        expected, found = (train(setting, each, decay) for each in (SCAN, plan))
        difference = np.abs(found.keys - expected.keys).max()
        print(f"largest difference of keys {difference:.1e}, after moving {expected.moved:.1e}")
        assert expected.moved > 1e3 * tolerance
        assert difference < tolerance
        np.testing.assert_allclose(found.loss, expected.loss, rtol=0, atol=tolerance)


def test_the_meetings_leave_no_plan_and_no_setting_out():
    assert {name for _, name in MEETINGS} == set(PLANS)
    linear = {"sgd", "momentum", "nesterov"}
    for kind, optimizers in (("dual", linear), ("scan chunk vmap", linear | {"adamw"})):
        met = [setting for setting, name in MEETINGS if PLANS[name].strategy in kind.split()]
        for values, expected in zip(zip(*met, strict=True), (optimizers, {0, 1, BATCH}, {1, 3}), strict=False):
            assert set(values) == expected
        for flag in ("shuffle", "proximal", "clip"):
            assert {getattr(setting, flag) for setting in met} == {True, False}


def test_a_round_holds_no_parameters_for_any_client(make_federation, make_local, sizes_of_arrays):
    """On coefficients, and not for the lanes either; side by side on the parameters, as a control, it does."""
    clients, lanes, width = 64, 4, 256
    federation = make_federation([3] * clients, width, classes=40)
    local = make_local(*plan_batches(2, 3), "momentum", proximal=True, clip=True)
    of_all = clients * federation.params.keys.size

    def largest(plan: Plan) -> int:
        problem = federation.prepared(local, plan)
        cohort = federation.cohort(list(range(clients)))
        return max(sizes_of_arrays(federation.round(local, plan), federation.start(), cohort, problem))

    assert largest(Plan("vmap", clients)) >= of_all
    for devices in (1, 4):
        assert largest(Plan("dual", lanes, devices, block_rows=32)) < lanes * federation.params.keys.size < of_all
