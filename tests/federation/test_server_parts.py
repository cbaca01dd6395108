"""What the server keeps for a round's parts: a mechanism that hears what clients tell, an aggregation with a memory,
and a way down that is no plain copy. Each is held to a plain loop, over all ways to spread a cohort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import (
    Aggregation,
    Federation,
    Mechanism,
    PartHyper,
    Plan,
    compile_run,
    init_server,
    place,
    scaling,
    stateless,
)
from cachefl_jax.federation.aggregation import equal, proportional

pytestmark = pytest.mark.quick

SIZES, ROUNDS = [5, 9, 1, 12, 3, 7], 3
PLANS = [Plan("scan"), Plan("scan", 1, 4), Plan("chunk", 2), Plan("dual", 2, 1, 16), Plan("dual", 2, 2, 16)]


@pytest.fixture
def setting(make_federation, make_local):
    return make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)


def run(federation: Federation, plan: Plan, ours, hyper: PartHyper, rounds: int = ROUNDS):
    problem = place(engine.prepare(federation, plan, ours.problem._replace(part_hyper=hyper)), plan)
    state = init_server(federation, ours.params, problem)
    compiled = compile_run(federation, plan, rounds, state, problem)
    state, _ = compiled(place(state, plan), jnp.int32(rounds), problem)
    return jax.device_get(engine.unplaced(state, len(SIZES), plan))


def shorten(norm, sender):
    return jnp.minimum(1.0, sender.server["limit"] / norm)


def is_short(norm, sender):
    return (norm <= sender.server["limit"]).astype(jnp.float32)


def follow(aggregate, state, release):
    """Doubles the limit where nobody was short enough, and halves it where all were."""
    share = release.told[0] / release.clients
    limit = state["limit"] * jnp.exp(release.hyper * (0.5 - share))
    return aggregate, {"limit": limit, "heard": release.told[0], "clients": release.clients, "round": release.round}


limit = scaling(shorten, tells=is_short)
START = 0.01
following = Mechanism(
    follow,
    lambda params, hyper: {
        "limit": jnp.float32(START), "heard": jnp.float32(0), "clients": jnp.int32(0), "round": jnp.int32(-1)
    },
)  # fmt: skip


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_limit_follows_what_clients_tell_of_their_norms(setting, plain, plan):
    ours, local = setting
    hyper = PartHyper(((),), (), jnp.float32(2.0))
    federation = Federation(local, transforms=(limit,), mechanism=following)
    found = run(federation, plan, ours, hyper)
    assert int(found.parts.mechanism["clients"]) == len(SIZES)
    assert int(found.parts.mechanism["round"]) == ROUNDS - 1
    if "limited" not in plain:
        norms = lengths(local, ours)
        assert 0 < np.sum(norms <= START) < len(SIZES)
        one = run(federation, Plan("scan"), ours, hyper, 1).parts.mechanism
        assert one["heard"] == np.sum(norms <= START)
        np.testing.assert_allclose(one["limit"], START * np.exp(2.0 * (0.5 - np.mean(norms <= START))), rtol=1e-6)
        plain["limited"] = run(federation, Plan("scan"), ours, hyper)
    reference = plain["limited"]
    np.testing.assert_allclose(found.params.keys, reference.params.keys, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.parts.mechanism["limit"], reference.parts.mechanism["limit"], rtol=1e-6)


def lengths(local, ours) -> np.ndarray:
    """The norm of each client's first change, [C]."""
    keeping = Aggregation(
        weigh=equal,
        collect=lambda updates, received: jax.tree.map(lambda leaf: leaf.sum(0), updates),
        state=lambda update, clients: jnp.zeros(clients),
        keep=lambda updates, aggregate, received: received.state.at[received.clients].set(
            jnp.linalg.norm(updates.keys.reshape(len(SIZES), -1), axis=1)
        ),
    )
    return run(Federation(local, aggregation=keeping), Plan("scan"), ours, PartHyper(), 1).parts.aggregation


class PlainRounds:
    """Rounds of plain averaging, each from params of our choice."""

    def __init__(self, ours, local, weigh=proportional):
        federation = Federation(local, aggregation=Aggregation(weigh=weigh))
        self.start = lambda params: init_server(federation, params, ours.problem)
        self.run = compile_run(federation, Plan("scan"), 1, self.start(ours.params), ours.problem)
        self.problem = ours.problem

    def change(self, params, number: int):
        """What round `number` adds to these params."""
        after, _ = self.run(self.start(params)._replace(round=jnp.int32(number)), jnp.int32(1), self.problem)
        return jax.tree.map(jnp.subtract, after.params, params)


@pytest.fixture(scope="module")
def plain():
    """By name, made once."""
    return {}


@pytest.mark.parametrize("plan", PLANS[:3], ids=str)
def test_an_aggregation_remembers(setting, plain, plan):
    """Each round adds half of the aggregate before."""
    ours, local = setting

    def collect(updates, received):
        def both(leaf, before):
            return jnp.tensordot(received.weights, leaf, axes=1) + before / 2

        return jax.tree.map(both, updates, received.state)

    slow = Aggregation(
        weigh=equal,
        collect=collect,
        state=lambda update, clients: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update),
        keep=lambda updates, aggregate, received: aggregate,
    )
    found = run(Federation(local, aggregation=slow), plan, ours, PartHyper())
    if "remembered" not in plain:
        rounds = PlainRounds(ours, local, equal)
        params, memory = ours.params, jax.tree.map(jnp.zeros_like, ours.params)
        for number in range(ROUNDS):
            memory = jax.tree.map(lambda new, old: new + old / 2, rounds.change(params, number), memory)
            params = jax.tree.map(jnp.add, params, memory)
        plain["remembered"] = params
    np.testing.assert_allclose(found.params.keys, plain["remembered"].keys, rtol=0, atol=1e-6)


def shrink(update, sender):
    return jax.tree.map(lambda leaf: sender.hyper * leaf, update)


halve = stateless(shrink, size=lambda size: size / 2)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_a_download_loses_comes_with_the_next(setting, plain, plan):
    ours, local = setting
    federation = Federation(local, downloads=(halve,))
    found = run(federation, plan, ours, PartHyper(downloads=(jnp.float32(0.5),)))
    if "halved" not in plain:
        rounds, params, held = PlainRounds(ours, local), ours.params, ours.params
        for number in range(ROUNDS):
            held = jax.tree.map(lambda old, new: old + (new - old) / 2, held, params)
            params = jax.tree.map(jnp.add, params, rounds.change(held, number))
        plain["halved"] = params, held
    params, held = plain["halved"]
    np.testing.assert_allclose(found.params.keys, params.keys, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.parts.downloads[0].keys, held.keys, rtol=0, atol=1e-5)
    assert np.abs(params.keys - held.keys).max() > 1e-3
    whole = engine.traffic(Federation(local), ours.params, ours.problem)[1]
    assert engine.traffic(federation, ours.params, ours.problem)[1] == whole / 2


def test_nothing_is_kept_where_nobody_asks(setting):
    ours, local = setting
    assert init_server(Federation(local), ours.params, ours.problem).parts == ()
