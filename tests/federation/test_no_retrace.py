"""One compilation serves a whole run: cohorts grow and shrink, numbers change, nothing is compiled anew."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import SERVER_OPTIMIZERS, init_server, make_round, plan_batches
from cachefl_jax.methods import cachefl, cross_entropy

SIZES = [1, 7, 12, 3, 9, 12]
COHORT_SIZES = [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 6, 1, 5, 2, 4, 3, 3, 6, 1]
SERVERS = {"fedavg": ("sgd", 1.0, 0.0), "fedavgm": ("sgd", 1.0, 0.9), "fedadam": ("adam", 0.01, 0.9)}


@pytest.fixture
def problem(make_problem):
    return make_problem(SIZES)


@pytest.fixture
def training(make_local):
    """(local training, the list that a trace of its loss grows)."""
    traces, loss = [], cross_entropy(cachefl)

    def counted(params, frozen, batch):
        traces.append(None)
        return loss(params, frozen, batch)

    return make_local(*plan_batches(4, max(SIZES)), loss=counted), traces


@pytest.fixture
def compilations(caplog):
    """() -> names of all programs that XLA has been asked to compile since the test began."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield lambda: [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling")]


def draw_cohorts(problem, sizes: list[int]) -> list:
    rng = np.random.default_rng(0)
    return [problem.cohort(rng.permutation(len(SIZES))[:size].tolist()) for size in sizes]


@pytest.mark.parametrize(("server", "devices"), [("fedavg", 1), ("fedadam", 1), ("fedavgm", 4)])
def test_20_rounds_of_growing_and_shrinking_cohorts_are_one_trace_and_one_compilation(
    problem, training, compilations, server, devices
):
    local, traces = training
    optimizer = SERVER_OPTIMIZERS[SERVERS[server][0]](*SERVERS[server][1:])
    one_round = make_round(local, optimizer, client_chunk=4, devices=devices)
    state, cohorts = init_server(problem.params, optimizer), draw_cohorts(problem, COHORT_SIZES)
    state, _ = one_round(state, cohorts[0], *problem.fixed)
    first_compilations, first_traces = compilations(), len(traces)
    assert sum("train_round" in message for message in first_compilations) == 1
    assert first_traces >= 1
    for cohort in cohorts[1:]:
        state, metrics = one_round(state, cohort, *problem.fixed)
    assert int(state.round) == 20
    assert np.isfinite(metrics.train_loss)
    assert compilations()[len(first_compilations) :] == []
    assert len(traces) == first_traces


def test_new_numbers_compile_nothing_and_are_obeyed(problem, make_local, compilations):
    one_round = problem.round(make_local(*plan_batches(4, max(SIZES))), chunk=3)
    cohort = problem.cohort(list(range(6)))

    def keys(frozen: dict | None = None, hyper: dict | None = None, seed: int = 7) -> np.ndarray:
        """After one round with these fields changed."""
        changed = problem._replace(
            frozen=problem.frozen._replace(**{name: jnp.float32(x) for name, x in (frozen or {}).items()}),
            hyper=problem.hyper._replace(**{name: jnp.float32(x) for name, x in (hyper or {}).items()}),
            key=jax.random.key(seed),
        )
        state, _ = one_round(changed.start(), cohort, *changed.fixed)
        return np.asarray(state.params.keys)

    usual = keys()
    before = compilations()
    changes = (
        keys(frozen={"alpha": 5.0}),
        keys(frozen={"beta": 3.0}),
        keys(frozen={"logit_scale": 5.0}),
        keys(hyper={"learning_rate": 1e-3}),
        keys(hyper={"weight_decay": 0.5}),
        keys(hyper={"epsilon": 1e-2}),
        keys(seed=8),
    )
    for number, changed in enumerate(changes):
        assert np.abs(changed - usual).max() > 1e-5, f"change {number} had no effect"
    assert not any("train_round" in message for message in compilations()[len(before) :])


@pytest.mark.parametrize(("chunk", "devices"), [(3, 1), (4, 4)])
def test_a_round_gives_its_states_buffers_away_and_leaves_everything_else_alone(problem, make_local, chunk, devices):
    one_round = problem.round(make_local(*plan_batches(4, max(SIZES))), chunk, devices)
    first = problem.start()
    second, _ = one_round(first, problem.cohort([0, 1]), *problem.fixed)
    third, _ = one_round(second, problem.cohort([2]), *problem.fixed)
    # The first state lies on one device: spread over four, it is copied before it can be given away.
    given_away = [second] if devices > 1 else [first, second]
    for leaf in jax.tree.leaves(given_away):
        assert leaf.is_deleted()
    for leaf in jax.tree.leaves((third, problem)):
        assert not leaf.is_deleted()
