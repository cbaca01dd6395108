"""Our side of the comparison with PyTorch: the same case by `make_round`, and how close is the same."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from torch_reference import EPSILON, Case, Settings

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Cohort,
    Federation,
    Hyper,
    Linear,
    LocalTraining,
    Plan,
    Problem,
    ServerHyper,
    init_server,
    make_round,
    plan_batches,
    prepare,
)
from cachefl_jax.methods import Rows
from cachefl_jax.methods.cachefl import Cache, Frozen, cachefl
from cachefl_jax.methods.method import loss_of_scores, training_loss

TOLERANCE = 1e-5
CHUNK = Plan("chunk", 2)
LOSS = training_loss(cachefl)
LINEAR = Linear(lambda examples: examples.features, loss_of_scores(cachefl))


@functools.cache
def compiled_round(local: LocalTraining, plan: Plan) -> tuple[Callable, Callable]:
    """(preparation, round), built once for all tests that share them: learning rates and the like are traced."""
    federation = Federation(local)
    return jax.jit(functools.partial(prepare, federation, plan)), make_round(federation, plan)


def our_federation(
    case: Case,
    settings: Settings,
    cohorts: list[list[int]],
    plan: Plan = CHUNK,
) -> tuple[np.ndarray, list[float]]:
    """What `torch_federation` gives, by `make_round`; cohorts are padded to all clients."""
    bank, partition = case.bank, case.partition
    local = LocalTraining(
        LOSS,
        CLIENT_OPTIMIZERS[settings.optimizer],
        settings.epochs,
        *plan_batches(settings.batch_size, int(partition.sizes.max())),
        linear=LINEAR,
        proximal=settings.proximal > 0,
        clip=settings.clip_norm < math.inf,
    )
    hyper = (settings.learning_rate, settings.weight_decay, settings.momentum, EPSILON)
    problem = Problem(
        Clients(jnp.asarray(partition.offsets, jnp.int32), jnp.asarray(partition.indices, jnp.int32)),
        Rows(jnp.asarray(bank.train.labels), jnp.asarray(bank.train.features)),
        Frozen(jnp.asarray(bank.text_features), *map(jnp.float32, (bank.logit_scale, case.alpha, case.beta))),
        Hyper(*map(jnp.float32, (*hyper, settings.proximal, settings.clip_norm))),
        ServerHyper(jnp.float32(1.0)),
        jax.random.key(0),
    )
    preparation, one_round = compiled_round(local, plan)
    problem = preparation(problem)
    state = init_server(Federation(local), Cache(jnp.asarray(case.keys)), problem)
    losses = []
    for cohort in cohorts:
        padded = cohort + [0] * (partition.clients - len(cohort))
        state, metrics = one_round(state, Cohort(jnp.asarray(padded, jnp.int32), jnp.int32(len(cohort))), problem)
        assert int(metrics.examples) == sum(partition.sizes[client] for client in cohort)
        losses.append(float(metrics.train_loss))
    return np.asarray(state.params.keys), losses


def assert_same(case: Case, ours: tuple[np.ndarray, list[float]], reference: tuple[np.ndarray, list[float]]) -> None:
    """Keys and losses within 1e-5, the keys after having moved a thousand times as far."""
    (keys, losses), (expected, expected_losses) = ours, reference
    difference, moved = (float(np.abs(keys - other).max()) for other in (expected, case.keys))
    print(f"largest difference of keys {difference:.1e}, after moving {moved:.1e}")
    assert moved > 1e3 * TOLERANCE
    assert difference < TOLERANCE
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=TOLERANCE)
