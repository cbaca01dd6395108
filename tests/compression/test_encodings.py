"""Every encoding is held to its bytes: what is read of them is what the transform leaves, and they are as many as the
engine counts. Roundings are held to plain NumPy, to their expectation and to their variance."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.compression import choice, codebook, numbers, rotation
from cachefl_jax.compression.encoding import (
    compressed,
    encoding_of,
    everything,
    float32,
    measured_bytes,
    most_bytes,
    nobody,
    read_leaf,
    through_wire,
)
from cachefl_jax.compression.packing import deflated, pack, unpack
from cachefl_jax.federation.transforms import Sender

pytestmark = pytest.mark.quick

HELD = np.array([True, False, True, False, True])
CHOICES = {
    "everything": everything,
    "top_k": choice.largest(0.05),
    "random_k": choice.drawn(0.1, True),
    "low_rank": choice.factors(2),
    "own_classes": choice.held_classes,
    "moved_keys": choice.far_rows,
}
NUMBERS = {
    "float32": float32,
    "float16": numbers.FLOAT16,
    "bfloat16": numbers.BFLOAT16,
    **{f"quantize_{bits}": numbers.uniform(bits) for bits in (1, 4)},
    **{f"rotated_{bits}": rotation.rotated(bits) for bits in (1, 3)},
    "product": codebook.product(4, 3),
}
PAIRS = [(chosen, "float32") for chosen in CHOICES] + [("everything", written) for written in NUMBERS]
PAIRS += [("top_k", "quantize_4"), ("low_rank", "rotated_3"), ("own_classes", "product"), ("moved_keys", "quantize_1")]
EVERY_SHAPE = {("low_rank", "float32"), ("top_k", "quantize_4"), ("everything", "rotated_3")}
SHAPES = [(5, 3, 24), (10,), ()]


def values(shape, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def sender(key: jax.Array, threshold: float = 4.9) -> Sender:
    held = lambda classes: jnp.asarray(np.resize(HELD, classes))  # noqa: E731
    return nobody(key)._replace(hyper=jnp.float32(threshold), held=held)


@pytest.mark.parametrize(("chosen", "written"), sorted(set(PAIRS)))
def test_the_bytes_hold_what_the_receiver_reads(chosen, written):
    encoding = encoding_of((CHOICES[chosen], NUMBERS[written]))
    for shape in SHAPES if (chosen, written) in EVERY_SHAPE else SHAPES[:1]:
        key = jax.random.key(1)

        def both(leaf, key, encoding=encoding, shape=shape):
            read, wire, _ = through_wire(encoding, leaf, encoding.choice.state(shape), sender(key))
            count = measured_bytes(encoding, wire, shape) if encoding.choice.sent else jnp.uint32(0)
            return wire, read, count

        wire, read, count = jax.device_get(jax.jit(both)(values(shape), key))
        packed = pack(encoding, wire, shape)
        if encoding.choice.sent is None:
            assert len(packed) == most_bytes(encoding, shape)
        else:
            assert len(packed) == count < most_bytes(encoding, shape)
        back = unpack(encoding, packed, shape)
        reader = functools.partial(read_leaf, encoding, leaf=jax.ShapeDtypeStruct(shape, jnp.float32), key=key)
        np.testing.assert_array_equal(jax.jit(reader)(back), read)
        assert np.isfinite(read).all()
        assert np.abs(read).max() > 0


def through(chosen, written, leaf: jax.Array, key: jax.Array) -> np.ndarray:
    encoding = encoding_of((chosen, written))
    return through_wire(encoding, leaf, encoding.choice.state(leaf.shape), sender(key))[0]


def test_bytes_of_codes_by_hand():
    shape, numbers_of = (5, 3, 24), 5 * 3 * 24
    count = lambda *codes: most_bytes(encoding_of(codes), shape)  # noqa: E731
    assert count() == 4 * numbers_of
    assert count(numbers.FLOAT16) == count(numbers.BFLOAT16) == 2 * numbers_of
    for bits in (1, 2, 4, 8):
        assert count(numbers.uniform(bits)) == 15 * 4 + numbers_of * bits // 8
        assert count(rotation.rotated(bits)) == 15 * 4 + 15 * 32 * bits // 8  # blocks of 32
    kept = round(0.05 * numbers_of)
    assert count(CHOICES["top_k"]) == 4 * kept + math.ceil(kept * 9 / 8)
    assert count(CHOICES["top_k"], numbers.uniform(4)) == 4 + kept // 2 + math.ceil(kept * 9 / 8)
    assert count(CHOICES["random_k"]) == 4 * round(0.1 * numbers_of)
    assert count(CHOICES["low_rank"]) == 4 * 2 * (15 + 24)
    assert count(NUMBERS["product"]) == 8 * 4 * 4 + 15 * 4 + math.ceil(15 * 6 * 3 / 8)
    assert count(choice.held_classes) == 4 * numbers_of + 1
    assert count(choice.far_rows) == 4 * numbers_of + 2


def test_choices_against_numpy():
    leaf, key = values((5, 3, 24)), jax.random.key(3)
    plain, flat = np.asarray(leaf), np.asarray(leaf).reshape(-1)
    found = np.asarray(through(CHOICES["top_k"], float32, leaf, key)).reshape(-1)
    largest = np.argsort(-np.abs(flat))[:18]
    expected = np.zeros_like(flat)
    expected[largest] = flat[largest]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(through(choice.held_classes, float32, leaf, key), plain * HELD[:, None, None])
    far = np.linalg.norm(plain, axis=2, keepdims=True) > 4.9
    assert 0 < far.sum() < 15
    np.testing.assert_array_equal(through(choice.far_rows, float32, leaf, key), plain * far)
    drawn = np.asarray(through(choice.drawn(0.1, False), float32, leaf, key)).reshape(-1)
    assert (drawn != 0).sum() == 36
    np.testing.assert_array_equal(drawn[drawn != 0], flat[drawn != 0])
    np.testing.assert_array_equal(through(everything, numbers.FLOAT16, leaf, key), plain.astype(np.float16))


def test_low_rank_finds_what_is_of_low_rank_and_more_of_it_each_round():
    left, right = values((40, 2)), values((2, 24), 1)
    of_rank_two, key = (left @ right).reshape(8, 5, 24), jax.random.key(0)
    np.testing.assert_allclose(through(choice.factors(2), float32, of_rank_two, key), of_rank_two, atol=1e-4)
    leaf, code = values((8, 5, 24)), choice.factors(2)
    state, errors = code.state(leaf.shape), []
    for _ in range(6):
        chosen = code.choose(leaf, state, sender(key))
        state = chosen.state
        errors.append(float(jnp.linalg.norm(code.restore(chosen.parts, (), leaf.shape, key) - leaf)))
    singular = np.linalg.svd(np.asarray(leaf).reshape(40, 24), compute_uv=False)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1.05 * np.sqrt((singular[2:] ** 2).sum()) < errors[0]


DRAWS = 4000
UNBIASED = {
    **{f"quantize_{bits}": (everything, numbers.uniform(bits)) for bits in (1, 2, 4, 8)},
    "random_k": (choice.drawn(0.25, True), float32),
    **{f"rotated_{bits}": (everything, rotation.rotated(bits)) for bits in (1, 2, 4)},
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_expectation_is_the_update(name):
    leaf = values((2, 64))
    keys = jax.random.split(jax.random.key(5), DRAWS)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: through(*UNBIASED[name], leaf, key)))(keys), np.float64)
    spread = draws.std(axis=0)
    bias = 0.02 if name.startswith("rotated") else 0.0  # a Hadamard matrix is only nearly a uniform rotation
    assert (np.abs(draws.mean(axis=0) - leaf) <= 5 * spread / np.sqrt(DRAWS) + bias + 1e-6).all()
    if name.startswith("quantize"):
        steps = 2 ** int(name.split("_")[1]) - 1
        step = 2 * np.abs(leaf).max(axis=1, keepdims=True) / steps
        assert (draws.var(axis=0) <= step**2 / 4 * 1.01).all()
        place = np.asarray(leaf) / step + 0.5 * steps
        share = place - np.floor(place)
        expected = share * (1 - share) * step**2
        np.testing.assert_allclose(draws.var(axis=0), expected, atol=0.05 * float((step**2).max()) / 4)
    if name == "random_k":
        np.testing.assert_allclose(draws.var(axis=0), np.square(leaf) * 3, rtol=0.15)


def test_rotated_numbers_err_as_their_paper_says():
    """EDEN's normalised error is about 1 / (1 - D) - 1 for the distortion D of b bits: 0.571, 0.134, 0.0096."""
    leaf, keys = values((1, 256)), jax.random.split(jax.random.key(2), 400)
    for bits, distortion in ((1, 0.3634), (2, 0.1175), (4, 0.009497)):
        read = jax.jit(jax.vmap(lambda key, bits=bits: through(everything, rotation.rotated(bits), leaf, key)))(keys)
        error = float(jnp.square(read - leaf[None]).sum(axis=(1, 2)).mean() / jnp.square(leaf).sum())
        assert error == pytest.approx(distortion / (1 - distortion), rel=0.05)


def test_the_rotation_is_hadamards_and_the_centroids_are_lloyds():
    matrix = np.asarray(rotation.hadamard(jnp.eye(8)))
    expected = np.array([[(-1) ** (row & column).bit_count() for column in range(8)] for row in range(8)])
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_allclose(rotation.centroids(1), [-0.7979, 0.7979], atol=1e-4)
    np.testing.assert_allclose(rotation.centroids(2), [-1.5104, -0.4528, 0.4528, 1.5104], atol=1e-3)
    assert (np.diff(rotation.centroids(8)) > 0).all()


def test_a_codebook_of_few_pieces_is_exact_up_to_each_rows_length():
    pieces = np.random.default_rng(0).normal(size=(8, 4))
    pieces /= np.linalg.norm(pieces, axis=1, keepdims=True)
    rows = pieces[np.random.default_rng(1).integers(0, 8, (30, 6))].reshape(30, 24) * np.arange(1, 31)[:, None]
    read = through(everything, codebook.product(4, 5), jnp.asarray(rows, jnp.float32), jax.random.key(0))
    np.testing.assert_allclose(read, rows, atol=1e-4)


@pytest.mark.parametrize("name", ["quantize_1", "rotated_1", "product"])
def test_nothing_stays_nothing(name):
    np.testing.assert_array_equal(through(everything, NUMBERS[name], jnp.zeros((3, 24)), jax.random.key(0)), 0)


def test_what_error_feedback_sends_is_all_that_it_had_to_less_the_residual():
    transform = compressed(encoding_of((CHOICES["top_k"], numbers.uniform(2))), feedback=True)
    first = {"a": values((5, 3, 24)), "b": values((10,))}
    state, given = transform.state(first), jax.tree.map(np.zeros_like, first)
    sent = given
    encode = jax.jit(lambda update, state, key: transform.apply(update, state, sender(key)))
    for number in range(12):
        update = jax.tree.map(lambda leaf, number=number: leaf * np.cos(number), first)
        read, state = encode(update, state, jax.random.key(number))
        given, sent = jax.tree.map(np.add, given, update), jax.tree.map(np.add, sent, read)
    for name in first:
        np.testing.assert_allclose(sent[name] + state.residual[name], given[name], atol=1e-4)
        assert np.abs(state.residual[name]).max() > 0.1


def test_an_entropy_coder_finds_what_is_the_same():
    assert deflated(b"ab" * 500) < 50
