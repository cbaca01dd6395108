"""One compilation serves a whole run: cohorts grow and shrink, numbers change, nothing is compiled anew."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Linear, Plan, ServerHyper, plan_batches
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.methods.method import loss_of_scores, training_loss

pytestmark = pytest.mark.quick

SIZES = [1, 7, 12, 3, 9, 12]
COHORT_SIZES = [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 6, 1, 5, 2, 4, 3, 3, 6, 1]
CHUNK, CHUNK_ON_4 = Plan("chunk", 4), Plan("chunk", 1, devices=4)
# Features of 8 numbers: clients with more rows than that train on the parameters.
DUAL, DUAL_ON_4 = Plan("dual", 2, block_rows=16), Plan("dual", 1, devices=4, block_rows=8)


@pytest.fixture
def federation(make_federation):
    return make_federation(SIZES)


@pytest.fixture
def training(make_local):
    """(optimizer) -> (local training, the list that a trace of its loss grows)."""

    def make(optimizer: str):
        traces = []

        def counted(loss):
            return lambda *arguments: (traces.append(None), loss(*arguments))[1]

        loss = counted(training_loss(cachefl))
        linear = Linear(lambda examples: examples.features, counted(loss_of_scores(cachefl)))
        return make_local(*plan_batches(4, max(SIZES)), optimizer, loss=loss, linear=linear), traces

    return make


@pytest.fixture
def compilations(caplog):
    """() -> names of all programs that XLA has been asked to compile since the test began."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield lambda: [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling")]


def rounds_in(messages: list[str]) -> int:
    return sum("one_round" in message for message in messages)


def draw_cohorts(federation, sizes: list[int]) -> list:
    rng = np.random.default_rng(0)
    return [federation.cohort(rng.permutation(len(SIZES))[:size].tolist()) for size in sizes]


@pytest.mark.parametrize(
    ("server", "numbers", "optimizer", "plan"),
    [
        ("sgd", (1.0, 0.0), "adamw", CHUNK),
        ("adam", (0.01, 0.9), "adamw", CHUNK),
        ("momentum", (1.0, 0.9), "adamw", CHUNK_ON_4),
        ("sgd", (1.0, 0.0), "sgd", DUAL),
        ("adam", (0.01, 0.9), "nesterov", DUAL_ON_4),
    ],
    ids=["fedavg", "fedadam", "fedavgm_on_4", "fedavg_dual", "fedadam_dual_on_4"],
)
def test_20_rounds_of_growing_and_shrinking_cohorts_are_one_trace_and_one_compilation(
    federation, training, compilations, server, numbers, optimizer, plan
):
    local, traces = training(optimizer)
    federation = federation.changed(server=ServerHyper(*map(jnp.float32, numbers)))
    problem, one_round = federation.prepared(local, plan), federation.round(local, plan, server)
    state, cohorts = federation.start(server), draw_cohorts(federation, COHORT_SIZES)
    state, _ = one_round(state, cohorts[0], problem)
    first_compilations, first_traces = compilations(), len(traces)
    assert rounds_in(first_compilations) == 1
    assert first_traces >= 1
    for cohort in cohorts[1:]:
        state, metrics = one_round(state, cohort, problem)
    assert int(state.round) == 20
    assert np.isfinite(metrics.train_loss)
    assert compilations()[len(first_compilations) :] == []
    assert len(traces) == first_traces


@pytest.mark.parametrize(
    ("optimizer", "plan", "read"),
    [
        ("adamw", Plan("chunk", 3), {"epsilon": 1e-2}),
        ("momentum", DUAL, {"momentum": 0.5}),
        ("momentum", DUAL_ON_4, {"momentum": 0.5}),
    ],
    ids=["chunk", "dual", "dual_on_4"],
)
def test_new_numbers_compile_nothing_and_are_obeyed(federation, make_local, compilations, optimizer, plan, read):
    local = make_local(*plan_batches(4, max(SIZES)), optimizer, proximal=True, clip=True)
    base = federation.problem.hyper._replace(proximal=jnp.float32(0.1), clip_norm=jnp.float32(10.0))
    base = base._replace(learning_rate=jnp.float32(0.05)) if optimizer != "adamw" else base
    one_round, cohort = federation.round(local, plan), federation.cohort(list(range(6)))

    def keys(frozen: dict | None = None, hyper: dict | None = None, seed: int = 7, **server: float) -> np.ndarray:
        """After one round with these fields changed."""
        frozen, hyper, server = (
            {name: jnp.float32(x) for name, x in (fields or {}).items()} for fields in (frozen, hyper, server)
        )
        changed = federation.changed(
            frozen=federation.problem.frozen._replace(**frozen),
            hyper=base._replace(**hyper),
            server=federation.problem.server._replace(**server),
            key=jax.random.key(seed),
        )
        state, _ = one_round(changed.start(), cohort, changed.prepared(local, plan))
        return np.asarray(state.params.keys)

    usual = keys()
    before = compilations()
    assert rounds_in(before) == 1
    changes = (
        keys(frozen={"alpha": 5.0}),
        keys(frozen={"beta": 3.0}),
        keys(frozen={"logit_scale": 5.0}),
        keys(hyper={"learning_rate": 1e-3}),
        keys(hyper={"weight_decay": 0.5}),
        keys(hyper={"proximal": 2.0}),
        keys(hyper={"clip_norm": 0.05}),
        keys(hyper=read),
        keys(learning_rate=0.5),
        keys(seed=8),
    )
    for number, changed in enumerate(changes):
        assert np.abs(changed - usual).max() > 1e-5, f"change {number} had no effect"
    assert rounds_in(compilations()) == 1


@pytest.mark.parametrize(
    ("optimizer", "plan"),
    [("adamw", Plan("chunk", 3)), ("adamw", CHUNK_ON_4), ("momentum", DUAL), ("momentum", DUAL_ON_4)],
    ids=["chunk", "chunk_on_4", "dual", "dual_on_4"],
)
def test_a_round_gives_its_states_buffers_away_and_leaves_everything_else_alone(
    federation, make_local, optimizer, plan
):
    # As in the test above, so that nothing is compiled for this one.
    local = make_local(*plan_batches(4, max(SIZES)), optimizer, proximal=True, clip=True)
    one_round, problem = federation.round(local, plan), federation.prepared(local, plan)
    first = federation.start()
    second, _ = one_round(first, federation.cohort([0, 1]), problem)
    third, _ = one_round(second, federation.cohort([2]), problem)
    # The first state lies on one device: spread over four, it is copied before it can be given away.
    given_away = [second] if plan.devices > 1 else [first, second]
    for leaf in jax.tree.leaves(given_away):
        assert leaf.is_deleted()
    for leaf in jax.tree.leaves((third, problem, federation)):
        assert not leaf.is_deleted()
