"""A secure sum in the compiled round: what the server gets, to the bit, without the masks, which cancel.

The clients' side is a transform, the last of the chain: numbers are cut to the range and encoded, and a client that
leaves before its update comes sends zeros. The server's side is an aggregation: integers modulo 2^bits, which add up
to the same in every order, then the mean over those who are left, by weights that the server knows. A round whose
sum cannot be unmasked changes nothing. `cachefl_jax.privacy.secure.protocol` runs the masks themselves.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cachefl_jax.config.secure import most_clients
from cachefl_jax.federation import Aggregation, Received, Sender, ServerState, Transform, stateless
from cachefl_jax.federation.aggregation import add_totals, mean, uniform
from cachefl_jax.privacy.secure.fixed_point import decode, encode, full_scale
from cachefl_jax.privacy.secure.graph import Settings, recovered, ring
from cachefl_jax.privacy.secure.messages import overhead

FLOAT32 = 4  # bytes


class Numbers(NamedTuple):
    """The traced half of a secure sum."""

    clip: Any  # R
    dropout: Any  # probability that a client leaves


class Encoded(NamedTuple):
    """An update as it travels, or a sum of them. Only `words` would; the counts are the simulator's."""

    words: Any  # uint32, the update's structure
    clipped: jax.Array  # [] uint32, updates with numbers outside of the range
    broken: jax.Array  # [] uint32, updates with numbers that are not finite


class Told(NamedTuple):
    """What a run has met so far."""

    clipped: jax.Array  # [] int32, updates that lost something to the range
    dropped: jax.Array  # [] int32, clients that left before their update came
    failed: jax.Array  # [] int32, rounds whose sum could not be unmasked


def numbers_of(config: ConfigDict) -> Numbers:
    """The config's."""
    return Numbers(config.secure.clip, config.secure.dropout)


def settings_of(config: ConfigDict) -> Settings:
    """The config's."""
    secure = config.secure
    return Settings(secure.bits, secure.neighbours, secure.threshold)


def leaves_early(key: jax.Array, client: jax.Array, share: jax.Array) -> jax.Array:
    """[] bool: a client does not send its update; by the server's key of the round and its number alone."""
    return jax.random.uniform(jax.random.fold_in(key, client)) < share


@functools.cache
def encoder(settings: Settings) -> Transform:
    """The last transform of the chain."""

    def apply(update, sender: Sender) -> Encoded:
        limit, here = sender.hyper.clip, ~leaves_early(sender.server_key, sender.client, sender.hyper.dropout)
        leaves, structure = jax.tree.flatten(update)
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        inside = jnp.stack([(jnp.abs(leaf) <= limit).all() for leaf in leaves]).all()
        scale = jnp.where(here, sender.weight * full_scale(settings) / limit, 0)
        words = [
            encode(settings, jnp.clip(jnp.nan_to_num(leaf), -limit, limit), scale, key)
            for leaf, key in zip(leaves, jax.random.split(sender.key, len(leaves)), strict=True)
        ]
        clipped, broken = (jnp.uint32(flag & here) for flag in (finite & ~inside, ~finite))
        return Encoded(jax.tree.unflatten(structure, words), clipped, broken)

    return stateless(apply, hyper=numbers_of, size=lambda size: math.ceil(size / FLOAT32 * settings.bits / 8))


@functools.cache
def secure_sum(plain: Aggregation, settings: Settings, clients: int) -> Aggregation:
    """The aggregation: the mean by the weights of `plain`, added up as integers.

    Args:
        plain: `mean` or `uniform`.
        settings: static.
        clients: of a full cohort, by which the protocol's own bytes are told.
    """

    def finish(total: Encoded, received: Received):
        if len(received.present) > most_clients(settings.bits):
            raise ValueError(f"a sum of {settings.bits} bits has no room for {len(received.present)} clients")
        alive, sound = left_of(settings, received)
        weight = exact_sum(jnp.where(alive, received.weights, 0))
        scale = jnp.where(sound, received.hyper.clip / (full_scale(settings) * jnp.maximum(weight, 1e-30)), 0)
        scale = jnp.where(total.broken > 0, jnp.nan, scale)
        return jax.tree.map(lambda words: decode(settings, words) * scale, total.words)

    def keep(total: Encoded, aggregate, received: Received) -> Told:
        alive, sound = left_of(settings, received)
        told: Told = received.state
        gone = (received.present & ~alive).sum(dtype=jnp.int32)
        failed = received.present.any() & ~sound
        return Told(told.clipped + total.clipped.astype(jnp.int32), told.dropped + gone, told.failed + failed)

    def nothing(update, clients: int) -> Told:
        return Told(*[jnp.zeros((), jnp.int32)] * 3)

    return Aggregation(
        weigh=plain.weigh, add=lambda total, update, weight: add_totals(total, update), merge=add_totals,
        finish=finish, keep=keep, state=nothing, hyper=numbers_of,
        size=lambda size: size + overhead(clients, settings)[0], size_down=overhead(clients, settings)[1],
    )  # fmt: skip


def exact_sum(shares: jax.Array) -> jax.Array:
    """The sum of shares of 1, each to a multiple of 2^-31: the same bits in every program."""
    return (shares * 2.0**31).astype(jnp.uint32).sum(dtype=jnp.uint32).astype(jnp.float32) * 2.0**-31


def left_of(settings: Settings, received: Received) -> tuple[jax.Array, jax.Array]:
    """([M] bool whose update came, [] bool whether the sum of these can be unmasked)."""
    present, key = received.present, received.key
    early = jax.vmap(leaves_early, (None, 0, None))(key, received.clients, received.hyper.dropout)
    alive, order = present & ~early, ring(key, received.clients, present)
    return alive, recovered(settings, order, alive, present.sum(dtype=jnp.int32))


# By the config's names; `secured` makes those of a config's own settings.
secure_mean = secure_sum(mean, Settings(), 0)
secure_uniform = secure_sum(uniform, Settings(), 0)


def secured(config: ConfigDict) -> tuple[Transform, Aggregation]:
    """(the last transform of the chain, the aggregation) of a config with one of `config.secure.SECURE`."""
    settings, plain = settings_of(config), mean if config.aggregation.name == "secure_mean" else uniform
    return encoder(settings), secure_sum(plain, settings, config.cohort or config.partition.clients)


def told_of_sums(state: ServerState) -> dict[str, dict[str, int]]:
    """What summary.json's entry of a method says of its secure sums; nothing where it has none."""
    told = state.parts.aggregation if state.parts else ()
    return (
        {"secure_sum": {name: int(number) for name, number in told._asdict().items()}} if isinstance(told, Told) else {}
    )


def notes_on_sums(entries: Mapping[str, Mapping]) -> list[str]:
    """A sentence on each method whose updates were cut or whose rounds were lost; `entries` are summary.json's."""
    notes = []
    for name, entry in entries.items():
        told, label = entry.get("secure_sum", {}), entry.get("label") or name
        if told.get("clipped"):
            notes.append(f"{label}: {told['clipped']} updates had numbers above secure.clip, which were cut: raise it.")
        if told.get("failed"):
            lost = f"{label}: in {told['failed']} rounds too few clients were left to unmask the sum"
            notes.append(f"{lost}, and nothing changed: lower secure.threshold.")
    return notes
