"""Clients that keep something for themselves, leaves of the params or a whole model, against plain loops in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from algorithm_cases import CASES, COHORTS, OFFSETS, PLANS, SIZES, Parts, flat, make_federation
from torch_federation import Solver, Task, local_training, weighted_mean

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Cohort,
    Hyper,
    Problem,
    ServerHyper,
    fits_dual,
    init_server,
    make_round,
    place,
    traffic,
    unplaced,
)
from cachefl_jax.federation.algorithms import ditto, fedavg, fednova, scaffold
from cachefl_jax.federation.personal import with_personal_leaves

PRIMAL = ("scan", "chunk", "vmap", "devices")
PULL, RATE = 0.7, 0.1


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bias(params: tuple) -> tuple:
    """Of softmax regression (W, b), a client keeps b."""
    return (False, True)


def federation_of(case, work, optimizer="sgd", proximal=0.0):
    """Three rounds' federation and problem."""
    federation = make_federation(CASES[case], Parts(Solver(RATE, proximal=proximal)))
    local = federation.local._replace(work=work, optimizer=CLIENT_OPTIMIZERS[optimizer])
    numbers = Hyper(RATE, 0.0, 0.8, 1e-8, proximal, np.inf, PULL)
    hyper, server = jax.tree.map(jnp.float32, (numbers, ServerHyper()))
    clients = Clients(jnp.asarray(OFFSETS, jnp.int32), jnp.arange(OFFSETS[-1], dtype=jnp.int32))
    rows, frozen = jax.tree.map(jnp.asarray, (CASES[case].rows, CASES[case].frozen))
    return federation._replace(local=local), Problem(clients, rows, frozen, hyper, server, jax.random.key(0))


def train(case, work, plan="scan", **how):
    """(federation, state after three rounds of `COHORTS`)."""
    federation, problem = federation_of(case, work, **how)
    params = jax.tree.map(jnp.asarray, CASES[case].params)
    state = place(init_server(federation, params, problem), PLANS[plan])
    one_round = make_round(federation, PLANS[plan])
    for cohort in COHORTS:
        padded = cohort + [0] * (len(SIZES) - len(cohort))
        state, _ = one_round(state, Cohort(jnp.asarray(padded, jnp.int32), jnp.int32(len(cohort))), problem)
    return federation, unplaced(state, len(SIZES), PLANS[plan])


def models(federation, state) -> np.ndarray:
    """[C, P] of each client's own model."""
    own = functools.partial(federation.local.work.model, state.params)
    each = [own(jax.tree.map(lambda leaf, at=client: leaf[at], state.clients[0])) for client in range(len(SIZES))]
    return np.stack([flat(one) for one in each])


def adamw(task: Task, params: torch.Tensor, batches: list[np.ndarray]) -> torch.Tensor:
    """PyTorch's own, for the engine's numbers."""
    variable = params.clone().requires_grad_()
    optimizer = torch.optim.AdamW([variable], lr=RATE, weight_decay=0.0, eps=1e-8)
    for rows in batches:
        optimizer.zero_grad()
        task.loss(variable, rows).backward()
        optimizer.step()
    return variable.detach()


def reference_personal(task: Task, own: np.ndarray, solver: Solver, train=None) -> tuple[torch.Tensor, torch.Tensor]:
    """(server's params, every client's model [C, P]) where coordinates `own` [P] never leave a client."""
    own = torch.tensor(own)
    server, kept = torch.tensor(task.start), torch.tensor(task.start).repeat(len(task.sizes), 1)
    for number, cohort in enumerate(COHORTS):
        sent = []
        for client in cohort:
            begin = torch.where(own, kept[client], server)
            batches = task.batches(number, client)
            trained = train(task, begin, batches) if train else local_training(task, solver, begin, batches)[0]
            kept[client] = trained
            sent.append(trained)
        mean = weighted_mean(torch.stack(sent), task.weights(cohort))
        server = torch.where(own, server, mean)
    return server, torch.where(own, kept, server)


def reference_ditto(task: Task, solver: Solver) -> tuple[torch.Tensor, torch.Tensor]:
    """2012.04221, Algorithm 1: v <- v - eta (grad F(v) + lambda (v - w)) beside FedAvg's w."""
    server, own = torch.tensor(task.start), torch.tensor(task.start).repeat(len(task.sizes), 1)
    for number, cohort in enumerate(COHORTS):
        sent = []
        for client in cohort:
            batches = task.batches(number, client)
            sent.append(local_training(task, solver, server, batches)[0])
            for rows in batches:
                variable = own[client].clone().requires_grad_()
                (gradient,) = torch.autograd.grad(task.loss(variable, rows), variable)
                own[client] = own[client] - solver.learning_rate * (gradient + PULL * (own[client] - server))
        server = weighted_mean(torch.stack(sent), task.weights(cohort))
    return server, own


SOFTMAX = CASES["softmax"].task
IS_BIAS = np.arange(len(SOFTMAX.start)) >= len(SOFTMAX.start) - 3


@pytest.mark.quick
@pytest.mark.parametrize(("plan", "proximal"), [("scan", 2.0), *((plan, 0.0) for plan in PRIMAL)])
def test_own_leaves_are_those_of_a_plain_loop(plan, proximal):
    federation, state = train("softmax", with_personal_leaves(fedavg, bias), plan, proximal=proximal)
    server, own = reference_personal(SOFTMAX, IS_BIAS, Solver(RATE, proximal=proximal))
    np.testing.assert_allclose(flat(state.params), server, atol=1e-5)
    np.testing.assert_allclose(models(federation, state), own, atol=1e-5)
    assert np.abs(np.ptp(own[:, IS_BIAS].numpy(), axis=0)).min() > 1e-2  # or all of this would say little


@pytest.mark.quick
def test_own_leaves_train_by_adamw_too():
    federation, state = train("softmax", with_personal_leaves(fedavg, bias), optimizer="adamw")
    server, own = reference_personal(SOFTMAX, IS_BIAS, Solver(RATE), adamw)
    np.testing.assert_allclose(flat(state.params), server, atol=1e-5)
    np.testing.assert_allclose(models(federation, state), own, atol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize(("plan", "case"), [("scan", "cache"), *((plan, "softmax") for plan in PRIMAL)])
def test_dittos_two_models_are_those_of_a_plain_loop(plan, case):
    federation, state = train(case, ditto, plan)
    server, own = reference_ditto(CASES[case].task, Solver(RATE))
    np.testing.assert_allclose(flat(state.params), server, atol=1e-5)
    np.testing.assert_allclose(models(federation, state), own, atol=1e-5)
    assert (own - server).abs().max() > 1e-2


def test_dittos_server_is_fedavgs_to_the_bit():
    np.testing.assert_array_equal(flat(train("softmax", ditto)[1].params), flat(train("softmax", fedavg)[1].params))


@pytest.mark.quick
@pytest.mark.parametrize("work", [scaffold, fednova], ids=["scaffold", "fednova"])
def test_other_algorithms_are_what_they_are_without_the_leaves_that_clients_keep(work):
    """With a bias that nobody could train, each gives the weights that it gives where all travel."""

    def without_bias(params, frozen, batch):
        return CASES["softmax"].loss((params[0], jax.lax.stop_gradient(params[1])), frozen, batch)

    found = []
    for each in (work, with_personal_leaves(work, bias)):
        federation, problem = federation_of("softmax", each)
        federation = federation._replace(local=federation.local._replace(loss=without_bias))
        state = init_server(federation, jax.tree.map(jnp.asarray, CASES["softmax"].params), problem)
        one_round = make_round(federation, PLANS["chunk"])
        for cohort in COHORTS:
            padded = jnp.asarray(cohort + [0, 0], jnp.int32)
            state, _ = one_round(state, Cohort(padded, jnp.int32(len(cohort))), problem)
        found.append(flat(state.params))
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.abs(found[0] - SOFTMAX.start).max() > 1e-2


def test_bytes_are_those_of_what_travels():
    params = CASES["softmax"].params
    for work, numbers in ((fedavg, 3 * 8 + 3), (ditto, 3 * 8 + 3), (with_personal_leaves(fedavg, bias), 3 * 8)):
        federation, problem = federation_of("softmax", work)
        assert traffic(federation, params, problem) == (4 * numbers, 4 * numbers)
        assert fits_dual(federation._replace(local=federation.local._replace(linear=CASES["cache"].linear))) == (
            work is fedavg
        )


def test_an_algorithm_with_models_of_its_own_takes_no_leaves():
    with pytest.raises(ValueError, match="all train the server's model"):
        with_personal_leaves(ditto, bias)
