"""Sites that see only their own rows, and a server that sees no rows, do the simulator's rounds."""

import jax
import numpy as np
import pytest

from cachefl_jax import simulate
from cachefl_jax.config.components import own_fields, with_fields
from cachefl_jax.config.method import TRAINED
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
        *({"privacy.mechanism": name} for name in ("gaussian", "matrix", "distributed", "dpsgd")),
        {"hostile.kind": "free_rider"},
        {"updates.transforms": ("top_k",)},
        {"downloads.transforms": ("quantize",)},
        {"aggregation.name": "secure_mean"},
        {"participation.drop_out": 0.5},
        {"participation.drop_out_late": 0.5},
        {"participation.profiles": "phones"},
        {"clip.train_views": 2},
        *({"method": name} for name in ("ridge", "cachefl_personal", "lora", "full_fine_tuning", "visual_prompt")),
        *({"method": name} for name in ("prompt_fl", "fed_tpg")),
        *({"compare": (f"cachefl@{name}",)} for name in ("alone", "centralized", "features_once", "fine_tuned")),
        {"compare": ("cachefl", "linear_probe")},
        {"methods": ("cachefl", "local_only")},
        {"overrides": ("cachefl: local.epochs=5",)},
        {"partition.change": "blur"},
        {"partition.shots": 1},
        {"partition.left_out": ("0",)},
        {"evaluation.drift": True},
        {"writers": ("tensorboard",)},
    ],
    ids=lambda changes: f"{next(iter(changes))}={next(iter(changes.values()))}",
)  # fmt: skip
def test_what_separate_processes_cannot_do_is_refused(config_of, changes):
    """By the first field of these, in one line."""
    config = config_of()
    config.unlock()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match="pilot|method that trains on features") as refused:
        check_pilot(resolved(config))
    assert refused.value.field == next(iter(changes))


def resolved(config):
    """With the fields of the config's own method, whose checks are not what is tested."""
    return with_fields(config, own_fields(config))


def refusal(config) -> UsageError | None:
    try:
        return check_pilot(config)
    except UsageError as error:
        return error


def test_every_method_is_refused_or_trained(config_of):
    """All that read features, are trained and leave nothing at a client take part, and zero-shot CLIP and round 0 may
    be named beside them."""
    configs = {name: config_of(method=name, compare=(name, f"{name}@round_0", "zero_shot")) for name in TRAINED}
    refused = {name: refusal(config) for name, config in configs.items()}
    assert [name for name, error in refused.items() if error is None] == [
        "cachefl", "linear_probe", "task_res", "clip_adapter", "fed_clip", "lp_plus_plus", "local_prototypes",
        "cache_values", "cache_low_rank", "cache_vector", "cache_channels", "cache_scale",
    ]  # fmt: skip
    assert {error.field for error in refused.values() if error is not None} == {"method"}
    check_pilot(config_of(compare=()))  # the default's rows are not asked for


def test_site_and_server_agree_on_what_trains(config_of):
    """Another learning rate is refused by name; other data, cohorts and rounds are each side's own."""
    ours = agreed_fields(config_of(**{"local.learning_rate": 0.1}))
    theirs = agreed_fields(config_of(**{"rounds": 9, "cohort": 2, "server.optimizer": "adam"}))
    with pytest.raises(UsageError, match=r"local.learning_rate: got 0.1; allowed: 0.05, as the server has it"):
        check_agreed(ours, theirs)
    check_agreed(agreed_fields(config_of()), theirs)
