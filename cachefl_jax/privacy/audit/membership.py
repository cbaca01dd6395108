"""The part `membership`: was a row trained on? Federations like the run's, each on a random half of every client's
rows, show how a row's loss is with it and without it (LiRA: Carlini et al., arXiv 2112.03570).

Axis letters: S shadow federations, T models of each that are seen, A rows that are attacked, n rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients, Plan, init_server, train_rounds
from cachefl_jax.methods import Rows
from cachefl_jax.precision import run_precision
from cachefl_jax.privacy.audit import canary, words
from cachefl_jax.privacy.audit.part import Context, Section

MOST_ROWS, MOST_MODELS, ROWS_AT_ONCE = 2000, 8, 256
FALSE = {"tpr_at_1_in_1000": 1e-3, "tpr_at_1_in_100": 1e-2}  # shares of outsiders that are taken for members


class Halves(NamedTuple):
    """Who trains on what in the shadow federations."""

    clients: Clients  # offsets [C + 1], the same for all; indices [S, h]
    inside: np.ndarray  # [S, n] bool, by the row's place in the data


def membership(context: Context) -> tuple[dict, Section]:
    """How well members are told from others, by the last model and by several on the way.

    Raises UsageError: a federation on half of the rows diverges."""
    settings, learner = context.settings, context.learner
    run = canary.run_of(learner, context.config.rounds)
    halves = draw_halves(run.problem.clients, settings.shadows, settings.seed)
    draw = np.random.default_rng(settings.seed)
    told = np.flatnonzero(np.minimum(halves.inside.sum(axis=0), (~halves.inside).sum(axis=0)) > 1)
    rows = np.sort(draw.choice(told, min(MOST_ROWS, len(told)), replace=False))
    stops = np.unique(np.linspace(0, run.rounds, MOST_MODELS + 1).astype(np.int32))[1:]
    confidences = np.asarray(shadow_confidences(run, learner.method.logits, halves, (rows, stops), settings.seed))
    if not np.isfinite(confidences).all():
        allowed = "a run that stays finite also on half of its rows"
        raise UsageError("--parts", "membership", allowed, "leave it out, or lower local.learning_rate")
    inside = halves.inside[:, rows]
    found = {
        "shadows": settings.shadows, "rows": len(rows), "rounds_seen": stops.tolist(),
        "last_model": figures(ratios(confidences[:, -1:], inside), inside),
        "models_on_the_way": figures(ratios(confidences, inside), inside),
    }  # fmt: skip
    return found, words.membership(found, context.budget is not None)


def draw_halves(clients: Clients, shadows: int, seed: int) -> Halves:
    """Half of every client's rows for each federation; of an odd number one more or less, the same in all."""
    draw, offsets, indices = np.random.default_rng(seed), np.asarray(clients.offsets), np.asarray(clients.indices)
    sizes = np.diff(offsets)
    taken = sizes // 2 + (sizes % 2) * draw.integers(0, 2, len(sizes))
    owners, places = np.repeat(np.arange(len(sizes)), sizes), np.arange(len(indices)) - np.repeat(offsets[:-1], sizes)
    chosen = [indices[np.lexsort((draw.random(len(indices)), owners))][places < taken[owners]] for _ in range(shadows)]
    inside = np.zeros((shadows, indices.max() + 1), bool)
    for row, of_one in zip(inside, chosen, strict=True):
        row[of_one] = True
    ends = np.append(0, np.cumsum(taken)).astype(offsets.dtype)
    return Halves(Clients(ends, np.stack(chosen)), inside)


def shadow_confidences(run: canary.Run, logits, halves: Halves, attacked: tuple, seed: int) -> jax.Array:
    """log p / (1 - p) of each attacked row's own class, [S, T, A], under every federation's models; one program.

    `attacked`: (rows [A], rounds after which a model is seen [T])."""
    (federation, params, problem, _), (rows, stops) = run, attacked
    keys = jax.random.split(jax.random.key(seed), len(halves.inside))

    def one(key, indices, problem, seen: Rows):
        problem = problem._replace(key=key, clients=Clients(jnp.asarray(halves.clients.offsets), indices))
        counts = jnp.asarray(np.diff(stops, prepend=0))

        def segment(number, carry):
            state, found = carry
            state, _ = train_rounds(federation, Plan("scan"), 1, state, counts[number], problem)
            return state, found.at[number].set(confidence(logits, state.params, problem.frozen, seen))

        start = init_server(federation, params, problem), jnp.zeros((len(stops), len(rows)))
        return jax.lax.fori_loop(0, len(stops), segment, start)[1]

    @jax.jit
    def every(keys, indices, problem, seen):
        return jax.lax.map(lambda each: one(*each, problem, seen), (keys, indices))

    seen = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], problem.data)
    return every(keys, halves.clients.indices, jax.device_put(problem), seen)


def confidence(logits, params, frozen, rows: Rows) -> jax.Array:
    """The logit of the probability of each row's own class, [A]. Traced."""

    def of_one(row):
        with run_precision():
            found = logits(params, frozen, jax.tree.map(lambda leaf: leaf[None], row))[0]
        own = jnp.arange(len(found)) == row.labels
        return jnp.where(own, found, 0).sum() - jax.nn.logsumexp(jnp.where(own, -jnp.inf, found))

    return jax.lax.map(of_one, rows, batch_size=ROWS_AT_ONCE)


def ratios(confidences: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The log of how much likelier a row's confidence is for a member, [S, A], from [S, T, A] and who is in [S, A].

    Each federation is attacked by what the others show: normal distributions with means of each row's own, and one
    deviation of all rows, as the paper has it for few shadows. Models on the way are taken as independent."""
    found = 0.0
    for member in (True, False):
        mine = (inside == member)[:, None]
        count, total = mine.sum(axis=0), np.where(mine, confidences, 0).sum(axis=0)
        mean = (total - np.where(mine, confidences, 0)) / np.maximum(count - mine, 1)
        spread = np.where(mine, confidences - mean, 0)
        deviation = np.sqrt((spread**2).sum(axis=(0, 2)) / mine.sum(axis=(0, 2)))[:, None]
        log = scipy.stats.norm.logpdf(confidences, mean, np.maximum(deviation, np.finfo(np.float32).tiny))
        found = found + (log if member else -log)
    return found.sum(axis=1)


def figures(scores: np.ndarray, inside: np.ndarray) -> dict:
    """The area under the curve and shares of members found, each with the half width of its 95% interval over the
    federations attacked, for scores [S, A]."""
    ranks = np.stack([scipy.stats.rankdata(row) for row in scores])
    members = inside.sum(axis=1)
    pairs = members * (inside.shape[1] - members)
    areas = ((ranks * inside).sum(axis=1) - members * (members + 1) / 2) / pairs
    found = {"auc": areas}
    for name, share in FALSE.items():
        threshold = np.quantile(scores[~inside], 1 - share)
        found[name] = ((scores > threshold) & inside).sum(axis=1) / members
    half = 1.96 / np.sqrt(len(scores))
    return {name: {"mean": float(each.mean()), "half": float(half * each.std(ddof=1))} for name, each in found.items()}
