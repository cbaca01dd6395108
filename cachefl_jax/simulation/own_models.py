"""Figures of a federation whose every client has a model of its own: means over the clients' models.

Each is scored on the common test rows, and on those that stand for its client. A client that never took part has what
the server started it with.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from cachefl_jax.federation import Scores, ServerState, figures, make_scores_of_models
from cachefl_jax.simulation.finished_clients import FinishedClients
from cachefl_jax.simulation.scores import RIGHT, OwnRows, named

if TYPE_CHECKING:
    from cachefl_jax.simulation.build import Learner

PART = 256  # clients that a call scores, one after another; what it gives back is [PART, N]


def over_models(
    own: OwnRows, rows: Sequence[int], scored: Iterable[tuple[np.ndarray, list[Scores]]], each_row: bool = False
) -> dict:
    """Figures by their names in summary.json, and the least and the largest test accuracy. NaN accuracies where a logit
    is not finite.

    Args:
        own: the test rows that stand for each client.
        rows: of each split, the test rows first.
        scored: (numbers of clients [M], the scores of their models on each split, [M, ...]), until all clients are.
        each_row: whether `Right` comes along; the scores say of each test row whether it is right.
    """
    finished, sound = FinishedClients(None, own.cells.clients, rows, 0, own), True
    for clients, scores in scored:
        told = figures(scores[0])
        finished.add(clients, scores, own.accuracies(told, scores[0].correct, clients), clients)
        sound = sound and all(each.finite.all() for each in scores)
    accuracies = finished.right[0] / rows[0]
    spread = {"test_accuracy_min": float(accuracies.min()), "test_accuracy_max": float(accuracies.max())}
    found = named(*finished.means(), finished.own) | spread | ({RIGHT: finished.each_row()} if each_row else {})
    return found if sound else found | dict.fromkeys(("test_accuracy", *spread), math.nan)


def score_own_models(learner: "Learner", state: ServerState) -> dict:
    """`over_models` of a federation; its state is whole on this process's devices."""
    score, model = learner.score, learner.local.work.model
    params, states, frozen = jax.device_get((state.params, state.clients[0], score.frozen))
    scores, count = make_scores_of_models(learner.method.logits, score.asks_rows, model), score.own.cells.clients

    def parts() -> Iterator[tuple[np.ndarray, list[Scores]]]:
        size = -(-count // -(-count // PART))
        for first in range(0, count, size):
            clients = np.arange(first, min(first + size, count))
            padded = np.resize(clients, size)  # so that all parts are one program
            own = jax.tree.map(lambda leaf, padded=padded: leaf[padded], states)
            told = jax.device_get(scores(params, own, frozen, score.splits))
            real = len(clients)
            yield clients, jax.tree.map(lambda leaf, real=real: leaf[:real], told)

    return over_models(score.own, [len(rows.labels) for rows in score.splits], parts(), score.each_row)
