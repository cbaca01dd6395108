"""The protocol of a secure sum: what comes out, what the server sees, what it may not ask, and what travels."""

import json
import pathlib

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from scipy import stats

from cachefl_jax.privacy.secure.ciphers import agree, mask, new_key, seal, unseal
from cachefl_jax.privacy.secure.client import SecureClient
from cachefl_jax.privacy.secure.graph import Settings, degree, neighbours_of, shares_needed
from cachefl_jax.privacy.secure.messages import MESSAGES, overhead, pack, sizes, unpack
from cachefl_jax.privacy.secure.protocol import Unrecoverable, secure_round
from cachefl_jax.privacy.secure.shamir import PRIME, combine, split

CLIENTS, NUMBERS = 20, 300
SETTINGS = [Settings(24), Settings(24, 8), Settings(13, 4, 0.51)]
THIRD = frozenset({3, 4, 8, 11, 16, 17})  # 30% of them


def updates(settings: Settings, count: int = CLIENTS) -> dict[int, np.ndarray]:
    """Words of each client, in an order that is not ascending."""
    rng = np.random.default_rng(3)
    return {int(n): rng.integers(0, 2**settings.bits, NUMBERS, np.uint32) for n in rng.permutation(count)}


def plain(given: dict[int, np.ndarray], settings: Settings, gone=()) -> np.ndarray:
    """The sum of those who stay, without any protocol."""
    total = sum(words.astype(object) for number, words in given.items() if number not in gone)
    return np.asarray(total % 2**settings.bits, np.uint32)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_masks_cancel_to_the_bit(settings):
    given = updates(settings)
    np.testing.assert_array_equal(secure_round(given, settings).total, plain(given, settings))


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=str)
@pytest.mark.parametrize("silent", [frozenset(), frozenset({0})], ids=["all answer", "one does not"])
def test_a_sum_is_recovered_after_30_per_cent_have_left(settings, silent):
    """With half of their neighbours each, which none of them lacks here."""
    given, settings = updates(settings), settings._replace(threshold=0.5)
    assert len(THIRD) == 0.3 * CLIENTS
    found = secure_round(given, settings, THIRD, silent)
    np.testing.assert_array_equal(found.total, plain(given, settings, THIRD))
    assert set(found.received) == set(given) - THIRD


def test_too_few_clients_recover_nothing():
    settings = Settings(24, 0, 0.8)
    with pytest.raises(Unrecoverable, match="too few neighbours left"):
        secure_round(updates(settings), settings, THIRD)
    with pytest.raises(Unrecoverable, match=r"\d+ shares of 16"):
        secure_round(updates(settings), settings, frozenset(), THIRD)
    with pytest.raises(Unrecoverable, match="no update"):
        secure_round(updates(settings), settings, frozenset(range(CLIENTS)))


def test_a_client_that_leaves_with_both_of_its_neighbours_has_no_mask_in_the_sum():
    """Of 5, between 4 and 6 on a ring of two neighbours each, nobody could tell anything, and nobody has to."""
    settings, gone = Settings(24, 2, 0.5), frozenset({4, 5, 6})
    given = dict(zip(range(8), updates(settings).values(), strict=False))
    np.testing.assert_array_equal(secure_round(given, settings, gone).total, plain(given, settings, gone))
    with pytest.raises(Unrecoverable):  # 3 and 7 have one neighbour left of two
        secure_round(given, settings._replace(threshold=0.51), gone)


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=str)
def test_one_masked_update_looks_like_random_words(settings):
    """A chi-square test of each of its bytes and of the difference to the true words, for an update of zeros."""
    given = {number: np.zeros(20_000, np.uint32) for number in range(6)}
    seen = secure_round(given, settings).received[2]
    for shift in (0, 8, 16):
        counts = np.bincount((seen >> shift) & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
    assert seen.max() < 2**settings.bits


def test_the_test_of_randomness_refutes_a_narrow_mask():
    """It would have noticed a mask of one bit less."""
    seen = np.random.default_rng(0).integers(0, 2**23, 20_000)
    assert stats.chisquare(np.bincount(seen >> 16, minlength=256)).pvalue < 1e-6


def test_a_client_never_tells_both_secrets():
    """Whatever is asked: of one neighbour it gives one share, of that secret that its fate asks for."""
    settings, number = Settings(24, 0, 0.5), 1
    clients = {each: SecureClient(each, settings) for each in range(5)}
    keys = {each: client.advertise() for each, client in clients.items()}
    sealed = {each: client.share({k: v for k, v in keys.items() if k != each}) for each, client in clients.items()}
    client = clients[number]
    box = {other: sealed[other][number] for other in range(5) if other != number}
    client.masked(box, np.zeros(4, np.uint32))
    told = client.unmask({3})
    assert told == {other: client.held[other][other == 3] for other in box}
    with pytest.raises(ValueError, match="too few"):
        client.unmask({0, 2, 3})
    with pytest.raises(InvalidTag):  # a share is for one reader
        clients[2].masked({0: sealed[0][1]}, np.zeros(4, np.uint32))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_messages_have_the_bytes_that_are_told(settings):
    sent = secure_round(updates(settings), settings).sent
    assert tuple(sent) == MESSAGES
    due = sizes(degree(CLIENTS, settings.neighbours))
    due["update"] = -(-NUMBERS * settings.bits // 8), 0
    assert sent == {message: [each] * CLIENTS for message, each in due.items()}
    up, down = np.sum([sent[message][0] for message in MESSAGES], axis=0)
    assert (up - due["update"][0], down) == overhead(CLIENTS, settings)


@pytest.mark.parametrize("bits", [8, 13, 24, 32])
def test_packed_words_come_back(bits):
    words = np.random.default_rng(1).integers(0, 2**bits, 101, np.uint32)
    packed = pack(words, bits)
    assert len(packed) == -(-101 * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, 101), words)


def test_any_shares_give_the_secret_and_too_few_do_not():
    secret = bytes(range(224, 256))
    shares = dict(enumerate(split(secret, 4, 9)))
    rng = np.random.default_rng(0)
    for _ in range(20):
        some = {int(place): shares[int(place)] for place in rng.choice(9, 4, replace=False)}
        assert combine(some, 4) == secret
    with pytest.raises(ValueError, match="3 shares of 4"):
        combine({place: shares[place] for place in range(3)}, 4)
    # By three of four shares every secret is as likely: with another fourth they give another.
    other = {**{place: shares[place] for place in range(3)}, 3: (12345).to_bytes(33, "big")}
    value = sum(int.from_bytes(share, "big") * lagrange(place, 4) for place, share in other.items()) % PRIME
    assert value != int.from_bytes(secret, "big")


def lagrange(place: int, count: int) -> int:
    """The weight of a share in the secret."""
    product = 1
    for other in range(count):
        if other != place:
            product = product * (other + 1) * pow(other - place, -1, PRIME) % PRIME
    return product


def test_the_prime_is_one():
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        assert pow(base, PRIME - 1, PRIME) == 1


def test_keys_agree_for_their_purpose_alone():
    ours, theirs = new_key(), new_key()
    public = [key.public_key().public_bytes_raw() for key in (ours, theirs)]
    assert agree(ours, public[1], b"one") == agree(theirs, public[0], b"one") != agree(ours, public[1], b"two")
    key = agree(ours, public[1], b"one")
    assert unseal(key, seal(key, b"text")) == b"text"
    np.testing.assert_array_equal(mask(key, 10), mask(key, 20)[:10])


def test_neighbours_are_mutual_and_as_many_as_asked():
    order = [7, 2, 9, 4, 0, 5, 1]
    for neighbours in (0, 2, 4, 6, 10):
        beside = neighbours_of(order, neighbours)
        assert {len(each) for each in beside.values()} == {degree(7, neighbours)}
        assert all(own in beside[other] for own, each in beside.items() for other in each)
    assert neighbours_of(order, 2)[7] == [1, 2]
    assert [shares_needed(5, 0.6), shares_needed(10, 0.6), shares_needed(9, 0.51), shares_needed(4, 1.0)] == [
        3,
        6,
        5,
        4,
    ]


def test_flowers_protocol_has_the_same_sum():
    """Its SecAgg+ on the same integers with the same clients gone (flwr_secure_sum.py), and ours."""
    told = json.loads(pathlib.Path(__file__).with_name("flwr_secure_sum.json").read_text())
    for case in told["cases"]:
        given = {int(number): np.asarray(words, np.uint32) for number, words in case["integers"].items()}
        settings = Settings(told["bits"], case["neighbours"], 0.5)
        found = secure_round(given, settings, frozenset(case["gone"]))
        np.testing.assert_array_equal(found.total, np.asarray(case["sum"], np.uint32))
