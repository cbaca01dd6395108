"""What closed forms have in common: sums over classes that clients send once, the server's own rows, and linear heads
beside CLIP's texts.

    n[c] = rows of class c    S[c] = sum (f - m[c])    Q = sum (f - m[y]) (f - m[y])^T      over a client's rows (f, y)
    z[b,n] = s f[b] . text[n] + mix (f[b] . weight[n] + bias[n])                            logits

m[c] [D] is the mean feature of the server's own images of class c, which all clients are told, as they are told a head
of that size: moments about it are smaller than those about 0, so that float32 rounds them less. `moments` moves them
back. They are sums, so they do not depend on who holds which rows, and a secure sum fits them. Of the symmetric Q the
upper triangle travels: 4 (N + N D + D (D + 1) / 2) bytes.

The server's images count as the rows of one more client (`closed_form.server_rows`), as CacheFL has them for its keys.

Axis letters: B batch, N classes, K images of the server a class, D features.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field, lookup
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, SWITCH, finite, one_of
from cachefl_jax.methods.method import ClosedForm, Restored, Rows, Server, leaves_by_name, text_logits, text_of
from cachefl_jax.precision import double_precision, full_precision, run_precision

SERVER_ROWS = Field("closed_form.server_rows", True, "closed forms: whether the server's own images count as the rows "
                    "of one more client", *SWITCH, NONE, traced=True)  # fmt: skip
DTYPE = Field("closed_form.dtype", "float32", "closed forms: what sums travel as; float64 takes twice the bytes and "
              "leaves no rounding by which partitions differ", *one_of("float32", "float64"), CHOOSE)  # fmt: skip
SHARED = (SERVER_ROWS, DTYPE)
DECADES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # of a mixing weight
NEVER = -1e9  # the bias of a class without rows: minus infinity, in numbers that stay finite
SENT = (
    "A client sends, once, how many rows of each class it has and sums over their features, and no image. A class with "
    "a single row sends that row's feature."
)
PRIVACY = f"{SENT} The sums add up over the clients, so a secure sum would hide each one's."


class Head(NamedTuple):
    """What the server solves for; float32."""

    weight: jax.Array  # [N, D]
    bias: jax.Array | tuple[()] = ()  # [N]


class Frozen(NamedTuple):
    """What everybody holds."""

    text: jax.Array  # [N, D] class weights; zeros where a bank has no text features
    logit_scale: jax.Array  # []
    synthetic: jax.Array  # [N, K, D] features of the server's images
    server_rows: jax.Array  # [] 1: they count as rows, 0: they do not
    mix: jax.Array  # [] weight of the head's logits
    own: tuple[jax.Array, ...]  # a method's own numbers, [] each


class Sums(NamedTuple):
    """What a client sends, of moments about the server's class means."""

    count: jax.Array  # [N]
    total: jax.Array  # [N, D]
    triangle: jax.Array | tuple[()] = ()  # [D (D + 1) / 2] of the second moments, where they are wanted


class Moments(NamedTuple):
    """About 0, of all rows that count, the server's among them; float64."""

    count: jax.Array  # [N]
    total: jax.Array  # [N, D]
    second: jax.Array | None  # [D, D]

    @property
    def means(self) -> jax.Array:
        """[N, D], 0 of a class without rows."""
        return self.total / jnp.maximum(self.count, 1)[:, None]


def mix_field(group: str, default: float, *, positive: bool = False) -> Field:
    """The field of a method's mixing weight, which may be 0 unless it must be `positive`."""
    return Field(f"{group}.mix", default, "weight of the solved head's logits beside CLIP's; search it in decades",
                 *finite(0, open_end=positive), FINITE, traced=True)  # fmt: skip


def freezing(mix: Field, *own: Field) -> Callable[[Server, ConfigDict], Frozen]:
    """The `freeze` of a method with these fields of numbers."""

    def freeze(server: Server, config: ConfigDict) -> Frozen:
        numbers = [np.float32(lookup(config, field.name)) for field in (SERVER_ROWS, mix, *own)]
        return Frozen(*text_of(server), server.synthetic, *numbers[:2], tuple(numbers[2:]))

    return freeze


def class_means(frozen: Frozen) -> jax.Array:
    """m [N, D] of the server's images, float64."""
    return jnp.asarray(frozen.synthetic, jnp.float64).mean(axis=1)


def first_moments(frozen: Frozen, rows: Rows, valid: jax.Array) -> Sums:
    """n and S of the valid rows."""
    return sums_of(frozen, rows, valid)[0]


def second_moments(frozen: Frozen, rows: Rows, valid: jax.Array) -> Sums:
    """n, S and Q of the valid rows."""
    sums, away = sums_of(frozen, rows, valid)
    return sums._replace(triangle=upper_triangle(away.T @ away))


def sums_of(frozen: Frozen, rows: Rows, valid: jax.Array) -> tuple[Sums, jax.Array]:
    """(n and S, the features about their class means [B, D], 0 in rows that are not valid)."""
    means, counted = class_means(frozen), valid.astype(jnp.float64)
    away = (rows.features.astype(jnp.float64) - means[rows.labels]) * counted[:, None]
    count = jnp.zeros(len(means), jnp.float64).at[rows.labels].add(counted)
    return Sums(count, jnp.zeros_like(means).at[rows.labels].add(away)), away


def with_server(sums: Sums, frozen: Frozen) -> tuple[jax.Array, jax.Array]:
    """(count [M + 1, N], total [M + 1, N, D] about the class means m) of each client [M, ...] and, where its rows
    count, the server as one more."""
    count, total = (leaf.astype(jnp.float64) for leaf in sums[:2])
    images = frozen.server_rows * frozen.synthetic.shape[1]
    return (
        jnp.concatenate([count, jnp.full_like(count[:1], images)]), jnp.concatenate([total, jnp.zeros_like(total[:1])]),
    )  # fmt: skip


def moments(sums: Sums, frozen: Frozen) -> Moments:
    """The clients' sums about 0, and the server's own where they count."""
    count, total, triangle = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), sums)
    means, images = class_means(frozen), frozen.synthetic.shape[1]
    weight = jnp.asarray(frozen.server_rows, jnp.float64)
    count, second = count + weight * images, None
    if not isinstance(triangle, tuple):
        away = (jnp.asarray(frozen.synthetic, jnp.float64) - means[:, None]).reshape(-1, means.shape[1])
        across = means.T @ total
        second = symmetric(triangle, means.shape[1]) + weight * away.T @ away
        second = second + across + across.T + (means * count[:, None]).T @ means
    return Moments(count, total + count[:, None] * means, second)


def unit(vectors: jax.Array) -> jax.Array:
    """Rows [N, D] of length 1; those of 0 stay."""
    lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / jnp.where(lengths > 0, lengths, 1)


def places(width: int) -> np.ndarray:
    """[D (D + 1) / 2] where the upper triangle's numbers lie in a flat matrix [D D]."""
    rows, columns = np.triu_indices(width)
    return (rows * width + columns).astype(np.int32)


def upper_triangle(matrix: jax.Array) -> jax.Array:
    """[D, D] -> [D (D + 1) / 2]."""
    return matrix.reshape(-1)[places(len(matrix))]


def symmetric(triangle: jax.Array, width: int) -> jax.Array:
    """The matrix [D, D] of an upper triangle."""
    upper = jnp.zeros(width * width, triangle.dtype).at[places(width)].set(triangle).reshape(width, width)
    return upper + jnp.triu(upper, 1).T


def logits(head: Head, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    with run_precision():
        scores = rows.features @ head.weight.T
    if not isinstance(head.bias, tuple):
        scores = scores + head.bias[None]
    return text_logits(frozen, rows) + frozen.mix * scores


def starting(form: ClosedForm, freeze: Callable) -> Callable[[Server, ConfigDict], Head]:
    """The `init` of a closed form: the head of the server's own rows, or what no rows give."""

    def init(server: Server, config: ConfigDict) -> Head:
        frozen = freeze(server, config)
        row = Rows(np.zeros(1, np.int32), np.zeros((1, server.synthetic.shape[-1]), np.float32))
        with double_precision(), full_precision():
            shapes = jax.eval_shape(form.statistics, frozen, row, np.zeros(1, bool))
            lead = (1,) if form.collect else ()
            nothing = jax.tree.map(lambda leaf: np.zeros((*lead, *leaf.shape), np.float32), shapes)
            head = jax.device_get(compiled(form.solve)(nothing, frozen))
        return jax.tree.map(lambda leaf: leaf.astype(np.float32), head)

    return init


@functools.cache
def compiled(solve: Callable) -> Callable:
    """`solve` jitted, once for all configs."""
    return jax.jit(solve)


def artefact(head: Head, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head by name, and the numbers that the formula takes besides the texts."""
    numbers = {"mix": frozen.mix, "logit_scale": frozen.logit_scale}
    return leaves_by_name(head, frozen)[0], {name: float(str(np.float32(value))) for name, value in numbers.items()}


def restore(arrays: dict[str, Any], told: dict[str, Any]) -> Restored:
    """The head that `artefact` wrote; the server's images, of which it was solved, are not in the file."""
    scale, mix = (np.float32(told[name]) for name in ("logit_scale", "mix"))
    none = np.zeros((len(arrays["text"]), 0, arrays["text"].shape[1]), np.float32)
    return Restored(logits, head_of(arrays), Frozen(arrays["text"], scale, none, np.float32(0), mix, ()))


def head_of(arrays: dict[str, Any]) -> Head:
    """The head among the arrays of a file."""
    return Head(arrays["weight"], arrays.get("bias", ()))
