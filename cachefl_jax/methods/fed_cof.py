"""FedCOF: covariances for free. The spread of the clients' class means tells the covariance that no client sends.

A mean of n[i,c] rows varies n[i,c] times less than a row does. So of the K[c] clients with rows of class c, the
covariance within the class is estimated, without bias where clients draw their rows of a class alike, by

    Cov[c] = sum_i n[i,c] (mu[i,c] - mu[c]) (mu[i,c] - mu[c])^T / (K[c] - 1) + gamma I
    G      = sum_c (n[c] - 1) Cov[c] + n mu mu^T          mu the mean of all n rows
    W[c]   = G^-1 n[c] mu[c], brought to length 1
    z[b,n] = s f[b] . text[n] + mix f[b] . W[n]

Unlike ridge regression, whose G it estimates but for the scatter between classes, and unlike GDA, it depends on who
holds what: one client shows no spread, and many with few rows each show most. A class that a single client holds shows
gamma I alone. Clients send class counts and class sums. Source: Goswami et al., arXiv 2412.14326; their gamma of 1
outweighs features of length 1. The server keeps the clients' statistics side by side: memory grows as clients x N x D.

Axis letters: M clients, N classes, D features.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import Frozen, Head, Sums
from cachefl_jax.methods.method import Choice, ClosedForm, Method

MIX = class_sums.mix_field("fed_cof", 100.0)
GAMMA = Field("fed_cof.gamma", 1e-4, "the variance that every feature of every class has at least",
              *finite(0, open_end=True), FINITE, traced=True)  # fmt: skip


def solve(sums: Sums, frozen: Frozen) -> Head:
    """W [N, D], of each client's statistics [M, ...]."""
    count, total = class_sums.with_server(sums, frozen)
    rows = count.sum(axis=0)  # [N]
    share = total.sum(axis=0) / jnp.maximum(rows, 1)[:, None]
    spread = total / jnp.maximum(count, 1)[..., None] - share[None]
    others = jnp.maximum((count > 0).sum(axis=0) - 1, 1)
    freedom = jnp.maximum(rows - 1, 0)
    factor = (freedom / others)[None] * count  # [M, N]
    spread = (jnp.sqrt(factor)[..., None] * spread).reshape(-1, spread.shape[-1])
    sums_of_classes = rows[:, None] * (share + class_sums.class_means(frozen))
    mean = sums_of_classes.sum(axis=0) / jnp.maximum(jnp.sqrt(rows.sum()), 1)
    gamma = frozen.own[0].astype(spread.dtype) * jnp.maximum(freedom.sum(), 1)
    gram = spread.T @ spread + jnp.outer(mean, mean) + gamma * jnp.eye(len(mean))
    return Head(class_sums.unit(jax.scipy.linalg.solve(gram, sums_of_classes.T, assume_a="pos").T))


form = ClosedForm(class_sums.first_moments, solve, collect=True)
freeze = class_sums.freezing(MIX, GAMMA)
fed_cof = Method(
    label="FedCOF",
    init=class_sums.starting(form, freeze),
    logits=class_sums.logits,
    freeze=freeze,
    closed_form=form,
    search=(Choice(MIX.name, class_sums.DECADES), Choice(GAMMA.name, (1e-5, 1e-4, 1e-3, 1e-2))),
    fields=(*class_sums.SHARED, MIX, GAMMA),
    artefact=class_sums.artefact,
    restore=class_sums.restore,
    explanation="solved in one round from the class means that the clients send",
    untrained="FedCOF of the server's images",
    privacy=f"{class_sums.SENT} The server needs each client's, so no secure sum can hide them.",
)
