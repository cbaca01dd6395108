"""An encoding of updates: a choice of what is sent, then a way to write each number of it.

Both halves work leaf by leaf. A choice turns a leaf into parts, arrays of rows [R, W]; for a cache a row is a key. A
way to write numbers turns a part into arrays of few bits. The transform gives what the receiver reads of them.

Axis letters: R rows of a part, W numbers of a row.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.transforms import Sender, Transform

Shape = tuple[int, ...]


class Chosen(NamedTuple):
    """What is sent of a leaf."""

    parts: tuple[jax.Array, ...]  # [R, W] float32, to be written in fewer bits
    beside: tuple[jax.Array, ...] = ()  # travels as it is
    state: Any = ()  # what the sender keeps for the next round


class Written(NamedTuple):
    """A part as it travels."""

    rows: tuple[jax.Array, ...]  # [R, ...] each
    whole: tuple[jax.Array, ...] = ()  # of all rows


class Wire(NamedTuple):
    """A leaf as it travels."""

    beside: tuple[jax.Array, ...]
    parts: tuple[Written, ...]


class Choice(NamedTuple):
    """Which numbers are sent. All functions are traced; `shape` is the leaf's.

    Attributes:
        choose: (leaf, state, Sender) -> Chosen.
        restore: (parts, beside, shape, key) -> leaf.
        state: shape -> what a sender keeps for the leaf, at round 0.
        bits: shape -> bits of a number of each array of `beside`.
        sent: (beside, shape) -> [R] bool, the rows that travel; None: all do.
        hyper: the config's group, `updates` or `downloads` -> traced numbers.
    """

    choose: Callable
    restore: Callable
    state: Callable[[Shape], Any] = lambda shape: ()
    bits: Callable[[Shape], tuple[int, ...]] = lambda shape: ()
    sent: Callable | None = None
    hyper: Callable[[Any], Any] = lambda group: ()


class Numbers(NamedTuple):
    """How numbers are written. All functions are traced; `key` is known to both sides.

    Attributes:
        write: (part [R, W], key) -> Written; `key` also rounds.
        read: (Written, W, key) -> part.
        bits: of a number of each array of `Written.rows`; arrays of `Written.whole` are float32.
    """

    write: Callable
    read: Callable
    bits: tuple[int, ...]


class Encoding(NamedTuple):
    choice: Choice
    numbers: Numbers


def in_rows(shape: Shape) -> Shape:
    """(R, W) of a leaf: a row is what its last axis holds; a leaf of one axis is one row."""
    return (int(np.prod(shape[:-1])), shape[-1]) if shape else (1, 1)


everything = Choice(
    lambda leaf, state, sender: Chosen((leaf.reshape(in_rows(leaf.shape)),)),
    lambda parts, beside, shape, key: parts[0].reshape(shape),
)
float32 = Numbers(lambda part, key: Written((part,)), lambda written, width, key: written.rows[0], (32,))


def part_key(key: jax.Array, number: int) -> jax.Array:
    """Of a leaf's part."""
    return jax.random.fold_in(key, number)


def write_leaf(encoding: Encoding, leaf: jax.Array, state: Any, sender: Sender) -> tuple[Wire, Any]:
    """(a leaf as it travels, what its sender keeps); `sender.key` is the leaf's own. Traced."""
    chosen = encoding.choice.choose(leaf.astype(jnp.float32), state, sender)
    parts = [encoding.numbers.write(part, part_key(sender.key, at)) for at, part in enumerate(chosen.parts)]
    return Wire(chosen.beside, tuple(parts)), chosen.state


def through_wire(encoding: Encoding, leaf: jax.Array, state: Any, sender: Sender) -> tuple[jax.Array, Wire, Any]:
    """(what the receiver reads of a leaf, how it travels, what its sender keeps). Traced."""
    wire, state = write_leaf(encoding, leaf, state, sender)
    # Else a compiler might use more digits of a number than those that travel.
    wire = jax.lax.optimization_barrier(wire)
    like = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.lax.optimization_barrier(read_leaf(encoding, wire, like, sender.key)), wire, state


def read_leaf(encoding: Encoding, wire: Wire, leaf: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
    """What the receiver makes of it. Traced.

    Args:
        encoding: by which it was written.
        wire: as it travels.
        leaf: its shape and type before.
        key: the sender's for this leaf."""
    parts = []
    for at, (written, width) in enumerate(zip(wire.parts, widths(encoding, leaf.shape), strict=True)):
        parts.append(encoding.numbers.read(written, width, part_key(key, at)))
    restored = encoding.choice.restore(tuple(parts), wire.beside, leaf.shape, key)
    return restored.astype(leaf.dtype)


@functools.lru_cache(maxsize=256)
def widths(encoding: Encoding, shape: Shape) -> tuple[int, ...]:
    """W of each part of a leaf of this shape, [parts]."""
    return tuple(part.shape[1] for part in chosen_shapes(encoding.choice, shape).parts)


def chosen_shapes(choice: Choice, shape: Shape) -> Chosen:
    """`Chosen` of a leaf of this shape, as shapes."""

    def choose(leaf, key):
        return choice.choose(leaf, choice.state(shape), nobody(key))

    return jax.eval_shape(choose, jax.ShapeDtypeStruct(shape, jnp.float32), jax.eval_shape(lambda: jax.random.key(0)))


def nobody(key: jax.Array) -> Sender:
    """A sender without rows, for shapes."""
    zero = jnp.zeros((), jnp.int32)
    return Sender(zero, zero, key, jnp.ones(()), jnp.zeros(()), held=lambda classes: jnp.zeros(classes, bool))


def wire_shapes(encoding: Encoding, shape: Shape) -> Wire:
    """A leaf of this shape as it travels, as shapes."""

    def write(leaf, key):
        return write_leaf(encoding, leaf, encoding.choice.state(shape), nobody(key))[0]

    return jax.eval_shape(write, jax.ShapeDtypeStruct(shape, jnp.float32), jax.eval_shape(lambda: jax.random.key(0)))


def most_bytes(encoding: Encoding, shape: Shape) -> int:
    """Bytes of a leaf of this shape where all its rows travel."""
    wire = wire_shapes(encoding, shape)
    written = [each for part in wire.parts for each in zip(part.rows, encoding.numbers.bits, strict=True)]
    return fixed_bytes(encoding, wire, shape) + sum(-(-array.size * bits // 8) for array, bits in written)


def fixed_bytes(encoding: Encoding, wire: Wire, shape: Shape) -> int:
    """Bytes of a leaf that travel however many rows do."""
    beside = zip(wire.beside, encoding.choice.bits(shape), strict=True)
    whole = sum(4 * array.size for part in wire.parts for array in part.whole)
    return whole + sum(-(-array.size * bits // 8) for array, bits in beside)


def measured_bytes(encoding: Encoding, wire: Wire, shape: Shape) -> jax.Array:
    """Bytes of this very leaf, [] uint32. Traced."""
    total, sent = jnp.uint32(fixed_bytes(encoding, wire, shape)), encoding.choice.sent(wire.beside, shape)
    count = sent.sum(dtype=jnp.uint32)
    for part in wire.parts:
        for array, bits in zip(part.rows, encoding.numbers.bits, strict=True):
            a_row = jnp.uint32(array.size // array.shape[0] * bits)
            total += (count * a_row + jnp.uint32(7)) // jnp.uint32(8)
    return total


class State(NamedTuple):
    """What a sender keeps."""

    choices: tuple  # of each leaf
    residual: Any = ()  # an update: what has not been sent yet
    sent: jax.Array | tuple = ()  # [] uint32 bytes of the last update, where they depend on it


@functools.cache  # so that what is compiled for it is compiled once
def compressed(encoding: Encoding, group: str = "updates", feedback: bool = False) -> Transform:
    """The transform that leaves what the receiver reads.

    With error feedback a client adds what its last encoding lost before the next one (Seide et al. 2014; Karimireddy
    et al., arXiv 1901.09847): all that it has sent is all that it had to send, less one residual.

    Args:
        encoding: by which an update travels.
        group: of the config, which holds its numbers.
        feedback: whether the sender keeps a residual."""
    choice = encoding.choice

    def state(update) -> State | tuple:
        leaves = jax.tree.leaves(update)
        residual = jax.tree.map(jnp.zeros_like, update) if feedback else ()
        sent = jnp.uint32(0) if choice.sent else ()
        kept = State(tuple(choice.state(leaf.shape) for leaf in leaves), residual, sent)
        return kept if jax.tree.leaves(kept) else ()

    def apply(update, before: State | tuple, sender: Sender):
        kept = before or State(((),) * len(jax.tree.leaves(update)))
        wanted = jax.tree.map(jnp.add, update, kept.residual) if feedback else update
        leaves, structure = jax.tree.flatten(wanted)
        found, states, total = [], [], jnp.uint32(0)
        for at, leaf in enumerate(leaves):
            own = sender._replace(key=jax.random.fold_in(sender.key, at))
            read, wire, new = through_wire(encoding, leaf, kept.choices[at], own)
            found.append(read)
            states.append(new)
            total = total + measured_bytes(encoding, wire, leaf.shape) if choice.sent else total
        read = jax.tree.unflatten(structure, found)
        residual = jax.tree.map(jnp.subtract, wanted, read) if feedback else ()
        after = State(tuple(states), residual, total if choice.sent else ())
        return read, after if jax.tree.leaves(after) else ()

    def size_of(update) -> int:
        return sum(most_bytes(encoding, leaf.shape) for leaf in jax.tree.leaves(update))

    return Transform(
        apply, state, hyper=lambda config: choice.hyper(config[group]), encoded=size_of,
        measured=(lambda state: state.sent) if choice.sent else None,
    )  # fmt: skip


def encoding_of(codes: tuple[Choice | Numbers, ...]) -> Encoding:
    """The encoding of a choice, a way to write numbers, or one after the other."""
    choices = [code for code in codes if isinstance(code, Choice)]
    numbers = [code for code in codes if isinstance(code, Numbers)]
    return Encoding((choices or [everything])[0], (numbers or [float32])[0])


def code(make: Callable[[Any, str], Choice | Numbers]) -> Transform:
    """A name of `updates.transforms` or `downloads.transforms`: (the config's group, its name) -> half of an encoding.
    It is no transform by itself: `compressed` makes one of the encoding that it is part of."""
    return Transform(lambda update, state, sender: (update, state), code=make)
