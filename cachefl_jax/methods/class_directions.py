"""Class directions, a method of our own: each class a direction of unit length in whitened space, beside CLIP's texts.

It takes one round and no validation rows. Clients send the class sums that closed forms send
(`cachefl_jax.methods.class_sums`), and how well CLIP's texts alone do on their rows at a few scales a:

    loss[a] = sum over rows (log sum_n exp(a s f . text[n]) - a s f . text[y])     a = 2^-5, 2^-4.5, ... 2^3

From the sums the server has the means M [N, D] and the covariance V [D, D] within classes of n rows: the clients' and,
each of weight w, its own images'. It solves

    P = (V + l tr(V) / D I)^-1,   1 / l = (n / D)^2 / shrinkage + 1 / 4     the fewer rows, the less trust in V
    d[c] = P (M[c] - m),          m the mean of the M[c]: Fisher's linear discriminant
    u[c] = L d[c] / |d[c]|,       |d[c]|^2 = d[c] . (M[c] - m), L^2 the mean of |d[c]|^2 over classes
    z[b,c] = (k a s f[b] . text[c] + r u[c] . (f[b] - m)) / (k + r)

with r the rows a class. The unit length takes the place of the discriminant's bias -|d[c]|^2 / 2, whose error is what a
class with few rows suffers from most: a mean of few rows is far from m by chance. Three numbers come from the sums:

* a is the scale of least loss, with a log-normal prior around 1. Where CLIP is sure without being right, a is below 1.
* k = text_rows a is what the texts count as, in rows a class. Where they mislead they count for fewer rows.
* w = 1 / (1 + K g), with g how far the server's images lie from the clients', in variances of a client's row:
  g = (mean over classes |x[c] - y[c]|^2 - v / n[c] - v' / K) / v for class means x, y and variances v, v' of clients
  and server, where the means' common shift is taken out. With d more rows than classes: (d g + GAP N) / (d + N).

All is linear in f, so that what is sent back is one weight and one bias a class. Nothing depends on who holds which
rows, but for the half precision in which second moments travel: D (D + 1) + 4 (N + N D + 17) bytes up, 4 (N D + N)
down. Sums beyond its range (65,504: some 100,000 rows of a client, or more) leave no solution, and a run is refused.

The forms and the numbers shrinkage, text_rows, MOST and GAP were found on validation rows of four feature banks with 1,
4 and all rows a class. Discriminants of shrunk covariances beside CLIP's texts: arXiv 2402.04087.

Axis letters: B batch, N classes, K images of the server a class, D features, n rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import SERVER_ROWS, Head, Moments, Sums
from cachefl_jax.methods.method import Choice, ClosedForm, Method, Restored, Rows, Server, text_logits, text_of
from cachefl_jax.precision import in_single, run_precision

SCALES = 2.0 ** np.arange(-5, 3.5, 0.5)  # of CLIP's logits, that clients try
SPREAD = 2.0  # standard deviation of log a, before rows are seen
MOST = 4.0  # the largest l: with few rows a larger one is nearest means and nothing learnt of the covariance
GAP = 0.1  # of the server's images from the clients', before rows are seen
TINY = 1e-12

# fmt: off
SHRINKAGE = Field("class_directions.shrinkage", 0.4, "how much the covariance is shrunk where there are as many "
                  "rows as features",
                  *finite(0, open_end=True), FINITE, traced=True)
TEXT_ROWS = Field("class_directions.text_rows", 50.0, "how many rows a class CLIP's texts count as, where their scale "
                  "is right", *finite(0), FINITE, traced=True)
# fmt: on


class Frozen(NamedTuple):
    """What everybody holds."""

    text: jax.Array  # [N, D] class weights; zeros where a bank has no text features
    logit_scale: jax.Array  # []
    synthetic: jax.Array  # [N, K, D] features of the server's images
    server_rows: jax.Array  # [] 1: they count as rows, 0: they do not
    shrinkage: jax.Array  # []
    text_rows: jax.Array  # []


class Told(NamedTuple):
    """What a client sends."""

    sums: Sums  # their triangle in float16
    text_loss: jax.Array  # [scales] summed over the rows


def freeze(server: Server, config: ConfigDict) -> Frozen:
    own, rows = config.class_directions, config.closed_form.server_rows
    numbers = (np.float32(number) for number in (rows, own.shrinkage, own.text_rows))
    return Frozen(*text_of(server), server.synthetic, *numbers)


def statistics(frozen: Frozen, rows: Rows, valid: jax.Array) -> Told:
    """Sums over the valid rows."""
    scaled = SCALES[:, None, None] * text_logits(frozen, rows).astype(jnp.float64)[None]
    right = jnp.take_along_axis(scaled, rows.labels[None, :, None], axis=2)[:, :, 0]
    losses = jax.nn.logsumexp(scaled, axis=2) - right
    return Told(class_sums.second_moments(frozen, rows, valid), jnp.where(valid, losses, 0).sum(axis=1))


def packed(told: Told) -> Told:
    """What travels: of moments about the server's means, half precision changes no label."""
    told = in_single(told)
    return told._replace(sums=told.sums._replace(triangle=told.sums.triangle.astype(jnp.float16)))


def text_scale(text_loss: jax.Array) -> jax.Array:
    """a: the lowest point of the parabola through the least loss and its neighbours; 1 where texts say nothing."""
    logs = np.log(SCALES)
    penalised = text_loss + 0.5 * (logs / SPREAD) ** 2
    # By hand: JAX lowers argmin after the trace, where float64 is off again.
    places = jnp.arange(len(logs), dtype=jnp.int32)
    middle = jnp.clip(jnp.where(penalised == penalised.min(), places, len(logs)).min(), 1, len(logs) - 2)
    left, least, right = (penalised[middle + step] for step in (-1, 0, 1))
    bend = jnp.maximum(left - 2 * least + right, TINY)
    step = jnp.clip((left - right) / (2 * bend), -1, 1)
    return jnp.exp(jnp.asarray(logs)[middle] + step * (logs[1] - logs[0]))


def server_weight(sums: Sums, frozen: Frozen) -> jax.Array:
    """w of one of the server's images beside a client's row."""
    synthetic = jnp.asarray(frozen.synthetic, jnp.float64)
    classes, images, width = synthetic.shape
    count, present = sums.count, sums.count > 0
    shift = sums.total / jnp.maximum(count, 1)[:, None]  # of the clients' means from the server's
    held = present.sum()
    own = ((synthetic - synthetic.mean(axis=1, keepdims=True)) ** 2).sum()
    scatter = jnp.trace(class_sums.symmetric(sums.triangle, width)) - (count * (shift**2).sum(axis=1)).sum()
    spare, own_spare = count.sum() - held, classes * (images - 1)
    both = (own + scatter) / jnp.maximum(spare + own_spare, 1)
    variance = jnp.where(spare > 0, scatter / jnp.maximum(spare, 1), both)
    own_variance = own / own_spare if own_spare else both
    apart = (shift - shift.sum(axis=0, keepdims=True) / jnp.maximum(held, 1)) * present[:, None]
    by_chance = (present * (variance / jnp.maximum(count, 1) + own_variance / images)).sum() / jnp.maximum(held, 1)
    excess = (apart**2).sum() / jnp.maximum(held - 1, 1) - by_chance
    gap = jnp.maximum(excess, 0) / jnp.maximum(variance, TINY)
    gap = (spare * gap + classes * GAP) / (spare + classes)
    return frozen.server_rows.astype(jnp.float64) / (1 + images * gap)


def directions(moments: Moments, shrinkage: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(u [N, D], 0 of a class without rows; m [D])."""
    count, total, second = moments
    present = (count > 0)[:, None]
    means = total / jnp.where(present, count[:, None], 1)
    held = jnp.maximum(present.sum(), 1)
    centre = means.sum(axis=0, keepdims=True) / held
    away = jnp.where(present, means - centre, 0)
    rows, width = jnp.maximum(count.sum(), TINY), len(second)
    within = (second - (means * count[:, None]).T @ means) / rows
    # Where no class has two rows there is nothing within: the means' own spread says how large a variance is.
    level = jnp.maximum(jnp.trace(within), 1e-3 * (away**2).sum() / held + TINY) / width
    fisher = jax.scipy.linalg.solve(within + shrinkage * level * jnp.eye(width), away.T, assume_a="pos").T
    squares = (fisher * away).sum(axis=1)
    length = jnp.sqrt(squares.sum() / held)
    return length * fisher / jnp.sqrt(jnp.where(squares == 0, 1, squares))[:, None], centre[0]


def solve(told: Told, frozen: Frozen) -> Head:
    """The weight and bias of each class."""
    sums, text_loss = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), told)
    text, scale, synthetic, server_rows, shrinkage, text_rows = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64), frozen
    )
    classes, images, width = synthetic.shape
    moments = class_sums.moments(sums, frozen._replace(server_rows=server_weight(sums, frozen)))
    rows = jnp.maximum(sums.count.sum() + server_rows * classes * images, 1)
    unit, centre = directions(moments, 1 / ((rows / width) ** 2 / shrinkage + 1 / MOST))
    a, each = text_scale(text_loss), moments.count.sum() / classes
    worth = jnp.where((text == 0).all(), 0, text_rows * a)
    every = jnp.maximum(worth + each, TINY)
    # Said here: a solution by infinite numbers is all zeros.
    sound = jnp.where(jnp.isfinite(sums.triangle).all(), 1, jnp.nan)
    weight = sound * (worth * a * scale * text + each * unit) / every
    silent = (moments.count == 0) & (text == 0).all(axis=1)  # nothing is known of this class
    return Head(weight, jnp.where(silent, class_sums.NEVER, -(each / every) * unit @ centre))


def logits(head: Head, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    del frozen
    with run_precision():
        return rows.features @ head.weight.T + head.bias[None]


form = ClosedForm(statistics, solve, packed=packed)
class_directions = Method(
    label="class directions (ours)",
    init=class_sums.starting(form, freeze),
    logits=logits,
    freeze=freeze,
    closed_form=form,
    restore=lambda arrays, told: Restored(logits, class_sums.head_of(arrays), ()),
    search=(Choice(SHRINKAGE.name, (0.1, 0.4, 1.6)), Choice(TEXT_ROWS.name, (5.0, 15.0, 50.0, 150.0))),
    fields=(SERVER_ROWS, SHRINKAGE, TEXT_ROWS),
    explanation="solved in one round from sums that the clients send",
    untrained="class directions on the server's images",
    privacy=class_sums.PRIVACY + " The loss of CLIP's texts on its rows, summed, tells besides how well they fit them.",
)
