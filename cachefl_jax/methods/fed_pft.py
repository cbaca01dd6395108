"""FedPFT: clients send Gaussians, the server draws features from them and trains a head on these.

    mu[i,c], var[i,c] = mean and variance of client i's features of class c, feature by feature    n[i,c] rows
    f[c,j] = mu[i,c] + sqrt(var[i,c]) e,   e ~ N(0, I)      J draws a class, of client i in the share n[i,c] / n[c]
    W = T steps of Nesterov's gradient descent from the class means on sum_c (n[c] / n) mean_j CE(z(f[c,j]), c)
    z[b,n] = s f[b] . text[n] + mix f[b] . W[n]

Source: Beitollahi et al., arXiv 2402.01862, with one Gaussian of diagonal covariance a class and client; its mixtures
of several, spherical or full ones are left out. The paper draws as many features of a Gaussian as it stands for rows;
here each class has J draws and counts by its rows, so that the loss has the same mean and a size known beforehand.
Clients send class counts, sums and sums of squares, from which the Gaussians follow (`cachefl_jax.methods.class_sums`).
Finer parts of the data make finer mixtures, so it depends on who holds what. The step is 2 / mix^2, the inverse of the
loss's curvature for features of length 1.

Axis letters: M clients, N classes, J draws a class, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import Frozen, Head
from cachefl_jax.methods.method import Choice, ClosedForm, Method, Rows, Server

DRAWS = 32  # J
STEPS = 200  # T
MIX = class_sums.mix_field("fed_pft", 30.0, positive=True)


class Squares(NamedTuple):
    """What a client sends, of moments about the server's class means."""

    count: jax.Array  # [N]
    total: jax.Array  # [N, D]
    squares: jax.Array  # [N, D]


def statistics(frozen: Frozen, rows: Rows, valid: jax.Array) -> Squares:
    """Of the valid rows."""
    sums, away = class_sums.sums_of(frozen, rows, valid)
    return Squares(sums.count, sums.total, jnp.zeros_like(sums.total).at[rows.labels].add(away**2))


def draw(count: jax.Array, mean: jax.Array, deviation: jax.Array, seed: jax.Array) -> jax.Array:
    """[J, N, D] of the Gaussians of each client, [M, N] and [M, N, D]: the j-th of a class is of the client in whose
    rows its (j + 1/2) / J-th lies."""
    ends, places = jnp.cumsum(count, axis=0), (jnp.arange(DRAWS) + 0.5) / DRAWS
    before = ends[None] <= places[:, None, None] * ends[-1][None, None]
    client = jnp.minimum(before.sum(axis=1), len(count) - 1)  # [J, N]
    own = (client, jnp.arange(mean.shape[1])[None])
    noise = jax.random.normal(jax.random.key(seed), (DRAWS, *mean.shape[1:]), jnp.float32)
    return mean[own] + deviation[own] * noise


def train(features: jax.Array, shares: jax.Array, start: jax.Array, frozen: Frozen) -> jax.Array:
    """W [N, D] after T steps from `start`, on features [J, N, D] of classes that count by `shares` [N]."""
    mix, target = frozen.mix.astype(jnp.float64), jnp.eye(len(shares))[None]
    text = jnp.einsum("jcd,nd->jcn", features, frozen.text.astype(jnp.float64)) * frozen.logit_scale

    def step(number, carry):
        weight, ahead = carry
        scores = text + mix * jnp.einsum("jcd,nd->jcn", features, ahead)
        slopes = (jax.nn.softmax(scores, axis=-1) - target) * (shares / len(features))[None, :, None]
        new = ahead - 2 / mix * jnp.einsum("jcn,jcd->nd", slopes, features)
        return new, new + number / (number + 3) * (new - weight)

    return jax.lax.fori_loop(0, STEPS, step, (start, start))[0]


def solve(sums: Squares, frozen: Frozen) -> Head:
    """W, of each client's statistics [M, ...]."""
    count, total = class_sums.with_server(sums, frozen)
    means = class_sums.class_means(frozen)
    images = ((frozen.synthetic - means[:, None]) ** 2).sum(axis=1) * frozen.server_rows
    squares = jnp.concatenate([sums.squares.astype(jnp.float64), images[None]])
    rows = jnp.maximum(count, 1)[..., None]
    centre, every = total / rows, count.sum(axis=0)
    deviation = jnp.sqrt(jnp.maximum(squares / rows - centre**2, 0))
    start = jnp.where(every[:, None] > 0, means + total.sum(axis=0) / jnp.maximum(every, 1)[:, None], 0)
    features = draw(count, means[None] + centre, deviation, frozen.own[0])
    return Head(train(features, every / jnp.maximum(every.sum(), 1), start, frozen))


def freeze(server: Server, config: ConfigDict) -> Frozen:
    """As every closed form's, and the seed of the draws."""
    return numbers(server, config)._replace(own=(np.uint32(config.seed),))


form = ClosedForm(statistics, solve, collect=True)
numbers = class_sums.freezing(MIX)
fed_pft = Method(
    label="FedPFT",
    init=class_sums.starting(form, freeze),
    logits=class_sums.logits,
    freeze=freeze,
    closed_form=form,
    search=(Choice(MIX.name, (3.0, 10.0, 30.0, 100.0)),),
    fields=(*class_sums.SHARED, MIX),
    artefact=class_sums.artefact,
    restore=class_sums.restore,
    explanation="a head trained by the server on features drawn from Gaussians that the clients send",
    untrained="FedPFT of the server's images",
    privacy=f"{class_sums.SENT} The server needs each client's, so no secure sum can hide them; and it draws features "
    "that resemble the clients'.",
)
