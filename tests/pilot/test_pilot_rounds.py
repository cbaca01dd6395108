"""Sites that see only their own rows, and a server that sees no rows, do the simulator's rounds."""

import jax
import numpy as np
import pytest

from cachefl_jax import simulate
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.limits import agreed_fields, check_agreed, check_pilot
from cachefl_jax.pilot.rounds import Answer

pytestmark = pytest.mark.quick
NEAR = 1e-6  # of keys on the unit sphere


def farthest(ours, theirs) -> float:
    """The largest difference between two pytrees of params."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cohort": 2, "server.optimizer": "yogi"},
        {"local.optimizer": "sgd", "local.momentum": 0.9, "local.algorithm": "fednova", "aggregation.name": "uniform"},
        {"aggregation.name": "median", "updates.transforms": ("clip", "noise"), "updates.noise": 0.01},
        {"method": "linear_probe", "compare": ("linear_probe",), "local.proximal": 0.1, "local.batch_size": 0},
    ],
    ids=("plain", "cohorts", "fednova", "median of noisy updates", "linear probe"),
)
def test_the_rounds_are_the_simulators(config_of, federate, changes):
    """Params after three rounds, losses, and how many rows took part."""
    config = config_of(**changes)
    results = simulate(config)
    work, told = federate(config)
    assert farthest(work.state.params, results.params) < NEAR
    assert farthest(work.params, results.params) > 1e-2  # they have moved
    losses = [line["train_loss"] for line in results.records[1:]]
    np.testing.assert_allclose([float(each.train_loss) for each in told], losses, rtol=1e-5)
    assert [int(each.clients) for each in told] == [line["cohort"] for line in results.records[1:]]


def test_a_round_goes_on_without_a_site(config_of, federate):
    """With one site's answer missing the others count by their rows, as if it had none: a mean over the two."""
    config = config_of(**{"rounds": 1})
    work, (told,) = federate(config, {0: (1,)})
    alone = {site: federate(config, {0: [other for other in range(3) if other != site]})[0] for site in (0, 2)}
    rows = np.diff(np.asarray(work.problem.clients.offsets))
    share = rows[0] / (rows[0] + rows[2])
    expected = share * np.asarray(alone[0].state.params.keys) + (1 - share) * np.asarray(alone[2].state.params.keys)
    assert np.abs(np.asarray(work.state.params.keys) - expected).max() < NEAR
    assert int(told.clients) == 2
    assert int(told.examples) == rows[0] + rows[2]


def test_an_update_of_another_shape_is_refused(config_of, federate):
    work, _ = federate(config_of(**{"rounds": 0}))
    with pytest.raises(ValueError, match="site 1 sent"):
        work.close({1: Answer([np.zeros(3, np.float32)], 0.0)})


@pytest.mark.parametrize(
    "changes",
    [
        {"local.algorithm": "scaffold", "local.optimizer": "sgd"},
        {"local.algorithm": "ditto"},
        {"privacy.mechanism": "gaussian", "privacy.epsilon": 8.0},
        {"hostile.kind": "free_rider"},
        {"updates.transforms": ("topk",)},
        {"aggregation.name": "secure_mean"},
        {"participation.drop_out": 0.5},
        {"method": "ridge"},
        {"method": "lora"},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_what_separate_processes_cannot_do_is_refused(config_of, changes):
    """In one line that names a field of those."""
    config = config_of()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match="pilot|method that trains on features") as refused:
        check_pilot(config)
    assert refused.value.field.split(".")[0] in {name.split(".")[0] for name in changes}


def test_site_and_server_agree_on_what_trains(config_of):
    """Another learning rate is refused by name; other data, cohorts and rounds are each side's own."""
    ours = agreed_fields(config_of(**{"local.learning_rate": 0.1}))
    theirs = agreed_fields(config_of(**{"rounds": 9, "cohort": 2, "server.optimizer": "adam"}))
    with pytest.raises(UsageError, match=r"local.learning_rate: got 0.1; allowed: 0.05, as the server has it"):
        check_agreed(ours, theirs)
    check_agreed(agreed_fields(config_of()), theirs)
