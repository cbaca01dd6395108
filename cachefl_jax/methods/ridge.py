"""Ridge regression onto one-hot labels, in one round: the clients' Gram matrices add up to everybody's.

    W = Y^T F (F^T F + lambda I)^-1      of all rows F [n, D] with one-hot labels Y [n, N]
    z[b,n] = s f[b] . text[n] + mix f[b] . W[n]

Clients send class counts, class sums and second moments (`cachefl_jax.methods.class_sums`), from which F^T F and Y^T F
follow. Sources: Fed3R, arXiv 2406.01116, without its bias column; AFL, arXiv 2405.16240. AFL's clients send their own W
and F^T F + gamma I, so that each can solve for itself, and its server takes the gammas out again: what is left is W at
lambda = 0. Sums need no gamma. Where there are fewer rows than features that W does not exist, and so lambda stays:
`ridge.penalty`.

Axis letters: B batch, N classes, D features, n rows.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import Frozen, Head, Sums
from cachefl_jax.methods.method import Choice, ClosedForm, Method

MIX = class_sums.mix_field("ridge", 100.0)
PENALTY = Field("ridge.penalty", 0.1, "lambda: what is added to each feature's sum of squares",
                *finite(0, open_end=True), FINITE, traced=True)  # fmt: skip


def solve(sums: Sums, frozen: Frozen) -> Head:
    """W [N, D]."""
    _, total, second = class_sums.moments(sums, frozen)
    penalised = second + frozen.own[0].astype(second.dtype) * jnp.eye(len(second))
    return Head(jax.scipy.linalg.solve(penalised, total.T, assume_a="pos").T)


form = ClosedForm(class_sums.second_moments, solve)
freeze = class_sums.freezing(MIX, PENALTY)
ridge = Method(
    label="ridge regression",
    init=class_sums.starting(form, freeze),
    logits=class_sums.logits,
    freeze=freeze,
    closed_form=form,
    search=(Choice(MIX.name, class_sums.DECADES), Choice(PENALTY.name, (0.01, 0.1, 1.0))),
    fields=(*class_sums.SHARED, MIX, PENALTY),
    artefact=class_sums.artefact,
    restore=class_sums.restore,
    explanation="solved in one round from sums that the clients send",
    untrained="ridge regression on the server's images",
    privacy=class_sums.PRIVACY,
)
