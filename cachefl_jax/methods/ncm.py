"""Nearest class mean in one round: cosines to the mean feature of each class.

    z[b,n] = s f[b] . text[n] + mix f[b] . mu[n] / |mu[n]|      mu[n] = S[n] / n[n]

Clients send class counts and class sums (`cachefl_jax.methods.class_sums`). Source: FedNCM, Legate et al., arXiv
2306.03937, beside the zero-shot term. A class without rows has a mean of 0: its cosine is 0.

Axis letters: B batch, N classes, D features.
"""

from cachefl_jax.methods import class_sums
from cachefl_jax.methods.class_sums import Frozen, Head, Sums
from cachefl_jax.methods.method import Choice, ClosedForm, Method

MIX = class_sums.mix_field("ncm", 100.0)


def solve(sums: Sums, frozen: Frozen) -> Head:
    """The means, [N, D] of length 1."""
    means = class_sums.moments(sums, frozen).means
    return Head(class_sums.unit(means))


form = ClosedForm(class_sums.first_moments, solve)
freeze = class_sums.freezing(MIX)
ncm = Method(
    label="nearest class mean",
    init=class_sums.starting(form, freeze),
    logits=class_sums.logits,
    freeze=freeze,
    closed_form=form,
    search=(Choice(MIX.name, class_sums.DECADES),),
    fields=(*class_sums.SHARED, MIX),
    artefact=class_sums.artefact,
    restore=class_sums.restore,
    explanation="class means, in one round from sums that the clients send",
    untrained="class means of the server's images",
    privacy=class_sums.PRIVACY,
)
