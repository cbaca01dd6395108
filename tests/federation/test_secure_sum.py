"""A secure sum in the compiled round: the same integers in every order and on any number of devices, held to NumPy and
to the protocol with its masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import Cohort, Federation, PartHyper, Plan, init_server, make_round, place
from cachefl_jax.federation.aggregation import mean, uniform
from cachefl_jax.federation.work import server_key
from cachefl_jax.privacy.secure.fixed_point import decode, encode, full_scale
from cachefl_jax.privacy.secure.graph import Settings, neighbours_of, recovered, ring, shares_needed
from cachefl_jax.privacy.secure.protocol import Unrecoverable, secure_round
from cachefl_jax.privacy.secure.replay import replay, uploads_of
from cachefl_jax.privacy.secure.sums import Numbers, encoder, leaves_early, notes_on_sums, secure_sum, told_of_sums

SIZES = [5, 9, 1, 12, 3, 7, 4, 4, 8, 2]
COUNT = len(SIZES)
CLIP, SCAN = 0.05, Plan("scan")


@pytest.fixture(scope="module")
def ours(make_federation):
    return make_federation(SIZES)


@pytest.fixture(scope="module")
def local(make_local):
    return make_local(12, 12, optimizer="sgd", epochs=1)


def secure(local, settings: Settings, plain=mean) -> Federation:
    return Federation(local, transforms=(encoder(settings),), aggregation=secure_sum(plain, settings, COUNT))


def with_numbers(ours, clip: float = CLIP, dropout: float = 0.0):
    numbers = Numbers(jnp.float32(clip), jnp.float32(dropout))
    return ours.changed(part_hyper=PartHyper((numbers,), numbers))


compiled = functools.cache(make_round)  # what these tests spend their time on


def after(federation: Federation, ours, cohort=tuple(range(COUNT)), plan: Plan = SCAN):
    """The state after one round."""
    problem = place(ours.problem, plan)
    state = place(init_server(federation, ours.params, problem), plan)
    padded = [*cohort, *[0] * (COUNT - len(cohort))]
    state, _ = compiled(federation, plan)(
        state, Cohort(jnp.asarray(padded, jnp.int32), jnp.int32(len(cohort))), problem
    )
    return jax.device_get(engine.unplaced(state, COUNT, plan))


def test_any_order_and_any_devices_give_the_same_bits(ours, local):
    """Same programs for a client, so the same update; integers add up to the same wherever it is added."""
    settings = Settings(24, 4, 0.5)
    federation, ours = secure(local, settings), with_numbers(ours, dropout=0.2)
    reference = after(federation, ours)
    for cohort in (list(range(COUNT))[::-1], np.random.default_rng(1).permutation(COUNT).tolist()):
        np.testing.assert_array_equal(after(federation, ours, cohort).params.keys, reference.params.keys)
    found = after(federation, ours, plan=Plan("scan", 1, 4))
    np.testing.assert_array_equal(found.params.keys, reference.params.keys)
    assert found.parts == reference.parts
    found = after(federation, ours, plan=Plan("chunk", 4))
    step = CLIP / full_scale(settings) / (1 - 0.5)  # of a mean over half of the weight
    assert np.abs(found.params.keys - reference.params.keys).max() <= COUNT * step


@pytest.mark.quick
@pytest.mark.parametrize(("plain", "bits"), [(mean, 12), (uniform, 24)], ids=["by rows", "uniform"])
def test_the_mean_is_the_plain_one_up_to_the_step(ours, local, plain, bits):
    expected = after(Federation(local, aggregation=plain), ours).params.keys
    found = after(secure(local, Settings(bits), plain), with_numbers(ours))
    error = np.abs(found.params.keys - expected)
    assert error.max() <= COUNT * CLIP / 2 ** (bits - 2) + 1e-6
    assert bits > 12 or error.max() > 1e-6
    assert [int(number) for number in found.parts.aggregation] == [0, 0, 0]


@pytest.mark.parametrize("settings", [Settings(24, 0, 0.5), Settings(24, 6, 0.5)], ids=str)
def test_the_protocol_gives_the_round_to_the_bit(ours, local, settings):
    """Real keys, masks and shares over a round's updates, of which some clients leave; and the same from NumPy."""
    ours, federation = with_numbers(ours, dropout=0.3), secure(local, settings)
    state = init_server(federation, ours.params, ours.problem)
    told = replay(federation, settings, state, ours.problem)
    assert told["recovered"]
    assert told["equals_plain_sum"]
    assert told["equals_round"]
    key = server_key(jax.random.fold_in(ours.problem.key, 0))
    gone = [client for client in range(COUNT) if leaves_early(key, client, 0.3)]
    assert told["gone"] == gone != []
    assert (told["round"], told["clients"]) == (1, COUNT)


def test_updates_and_their_sum_are_numpys(ours, local):
    """By the weights of those who are left."""
    ours, federation = with_numbers(ours, dropout=0.3), secure(local, Settings())
    uploads = jax.device_get(uploads_of(federation, init_server(federation, ours.params, ours.problem), ours.problem))
    received, words = uploads.received, uploads.updates.words.keys
    key = server_key(jax.random.fold_in(ours.problem.key, 0))
    left = np.asarray([not leaves_early(key, client, 0.3) for client in received.clients])
    assert 0 < left.sum() < COUNT
    np.testing.assert_allclose(received.weights, np.array(SIZES)[received.clients] / sum(SIZES), rtol=1e-6)
    signed = words.astype(np.int64) - 2**24 * (words >= 2**23)
    expected = signed.sum(axis=0) * CLIP / 2**22 / received.weights[left].sum()
    np.testing.assert_allclose(uploads.aggregate.keys, expected, rtol=1e-5)
    assert not words[~left].any()
    assert words[left].any()
    after_it = after(federation, ours).params.keys
    np.testing.assert_array_equal(after_it, np.asarray(ours.params.keys) + uploads.aggregate.keys)


@pytest.mark.quick
def test_what_cannot_be_unmasked_changes_nothing(ours, local):
    settings = Settings(24, 0, 1.0)
    found = after(secure(local, settings), with_numbers(ours, dropout=0.3))
    np.testing.assert_array_equal(found.params.keys, ours.params.keys)
    assert int(found.parts.aggregation.failed) == 1
    two = after(secure(local, settings), with_numbers(ours), [3, 4])
    np.testing.assert_array_equal(two.params.keys, ours.params.keys)
    assert int(two.parts.aggregation.failed) == 1


@pytest.mark.quick
def test_numbers_outside_of_the_range_are_cut_and_told(ours, local):
    ours, federation = with_numbers(ours, 1e-4), secure(local, Settings())
    found = after(federation, ours)
    assert np.abs(found.params.keys - ours.params.keys).max() <= 1e-4 + 1e-7
    assert 0 < int(found.parts.aggregation.clipped) <= COUNT
    assert told_of_sums(found) == {
        "secure_sum": {"clipped": int(found.parts.aggregation.clipped), "dropped": 0, "failed": 0}
    }
    notes = notes_on_sums({"cachefl": told_of_sums(found), "other": {}})
    assert len(notes) == 1
    assert "cachefl" in notes[0]
    assert "secure.clip" in notes[0]


@pytest.mark.quick
def test_a_number_that_is_none_is_not_hidden(ours, local):
    """Else a diverged client would become an arbitrary integer."""
    broken = ours.problem.data._replace(features=ours.problem.data.features.at[0].set(jnp.nan))
    found = after(secure(local, Settings()), with_numbers(ours.changed(data=broken)))
    assert np.isnan(found.params.keys).all()


def test_a_sum_with_too_few_bits_for_the_cohort_is_refused(ours, local):
    federation = secure(local, Settings(5))
    with pytest.raises(ValueError, match="5 bits has no room for 10 clients"):
        after(federation, with_numbers(ours))


@pytest.mark.quick
def test_encoding_is_unbiased_and_off_by_less_than_a_step():
    settings, numbers = Settings(10), jnp.linspace(-1, 1, 41)
    keys = jax.random.split(jax.random.key(0), 4000)
    of_one = jax.vmap(lambda key: decode(settings, encode(settings, numbers, jnp.float32(7.3), key)))
    drawn = np.asarray(of_one(keys))
    exact = np.asarray(numbers) * 7.3
    assert np.abs(drawn - exact).max() < 1
    deviation = np.sqrt((exact - np.floor(exact)) * (np.ceil(exact) - exact) / len(keys))
    assert (np.abs(drawn.mean(axis=0) - exact) <= 5 * deviation + 1e-4).all()


def test_sums_wrap_and_come_back():
    settings = Settings(8)
    values = np.array([-60, 61, -128, 127, 0, -1], np.int32)
    words = jnp.asarray(values.astype(np.uint32) & 255)
    np.testing.assert_array_equal(decode(settings, words), values)
    np.testing.assert_array_equal(decode(settings, words + jnp.uint32(3 * 256)), values)


@pytest.mark.quick
@pytest.mark.parametrize("settings", [Settings(24, 0, 0.6), Settings(24, 4, 0.6), Settings(24, 4, 0.5)], ids=str)
def test_rounds_fail_exactly_where_the_protocol_does(settings):
    """Over random losses in cohorts of 3 to 9 in 9 places, padded as the engine pads them."""
    rng, places, seen = np.random.default_rng(0), 9, set()
    check = jax.jit(lambda order, alive, count: recovered(settings, order, alive, count))
    for _ in range(60):
        count = int(rng.integers(3, places + 1))
        order = np.concatenate([rng.permutation(count), np.arange(count, places)])
        alive = (rng.random(places) < 0.75) & (np.arange(places) < count)
        words = {int(place): np.arange(3, dtype=np.uint32) for place in order[:count]}
        gone = frozenset(place for place in words if not alive[place])
        try:
            secure_round(words, settings, gone)
            sound = True
        except Unrecoverable:
            sound = False
        assert bool(check(jnp.asarray(order), jnp.asarray(alive), jnp.int32(count))) == sound
        seen.add(sound)
    assert seen == {True, False}


def test_the_ring_is_the_clients_whatever_their_places():
    key, clients = jax.random.key(3), jnp.asarray([4, 8, 2, 6, 0, 0], jnp.int32)
    present = jnp.asarray([True] * 4 + [False] * 2)
    order = clients[ring(key, clients, present)[:4]].tolist()
    moved = jnp.asarray([2, 0, 1, 3, 4, 5])
    assert clients[moved][ring(key, clients[moved], present)[:4]].tolist() == order
    assert sorted(order) == [2, 4, 6, 8]
    assert len(neighbours_of(order, 2)[4]) == 2
    assert shares_needed(0, 0.6) == 1
