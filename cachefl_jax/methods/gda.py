"""Gaussian discriminant analysis in one round: classes that differ in their means alone, with one covariance.

    mu[c]   = S[c] / n[c]                                     class means
    Cov     = (sum f f^T - sum_c n[c] mu[c] mu[c]^T) / (n - 1)     covariance within classes
    P       = D ((n - 1) Cov + tr(Cov) I)^-1                  precision, shrunk
    W[c]    = P mu[c],   b[c] = log(1 / N) - mu[c] . P mu[c] / 2
    z[b,n]  = s f[b] . text[n] + mix (f[b] . W[n] + b[n])

Clients send class counts, class sums and second moments (`cachefl_jax.methods.class_sums`). Source: Wang et al., arXiv
2402.04087, whose shrinkage of the covariance this is. A class without rows is never predicted. Rows that never differ
within a class, such as one of each, show no covariance: then the head is 0, and a run in which all rows together are no
more than the classes is refused.

Axis letters: B batch, N classes, D features, n rows.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import Frozen, Head, Sums
from cachefl_jax.methods.method import Choice, ClosedForm, Method

MIX = class_sums.mix_field("gda", 10.0)
NO_SPREAD = 1e-6  # a variance that float32's rounding of the sums makes of nothing


def solve(sums: Sums, frozen: Frozen) -> Head:
    """W [N, D] and b [N]."""
    found = class_sums.moments(sums, frozen)
    classes, width = found.total.shape
    scatter = found.second - found.total.T @ found.means
    trace = jnp.trace(scatter) / jnp.maximum(found.count.sum() - 1, 1)
    seen = (found.count.sum() > (found.count > 0).sum()) & (trace > NO_SPREAD)
    shrunk = jnp.where(seen, scatter + trace * jnp.eye(width), jnp.eye(width))
    weight = width * jax.scipy.linalg.solve(shrunk, found.means.T, assume_a="pos").T
    bias = -jnp.log(classes) - (weight * found.means).sum(axis=1) / 2
    bias = jnp.where(found.count > 0, bias, class_sums.NEVER)
    return Head(jnp.where(seen, weight, 0), jnp.where(seen, bias, 0))


form = ClosedForm(class_sums.second_moments, solve, rows_a_class=1)
freeze = class_sums.freezing(MIX)
gda = Method(
    label="GDA",
    init=class_sums.starting(form, freeze),
    logits=class_sums.logits,
    freeze=freeze,
    closed_form=form,
    search=(Choice(MIX.name, (0.0001, 0.001, *class_sums.DECADES)),),
    fields=(*class_sums.SHARED, MIX),
    artefact=class_sums.artefact,
    restore=class_sums.restore,
    explanation="Gaussian discriminant analysis, solved in one round from sums that the clients send",
    untrained="GDA of the server's images",
    privacy=class_sums.PRIVACY,
)
