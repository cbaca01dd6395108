"""A config and its inputs to functions and arrays."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.aligned import empty
from cachefl_jax.config import server_numbers
from cachefl_jax.data import FeatureBank, Partition, Split
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Hyper,
    Linear,
    LocalTraining,
    Problem,
    ServerHyper,
    ServerState,
    init_server,
    make_accuracy,
    plan_batches,
    repeat_views,
)
from cachefl_jax.files import check_room
from cachefl_jax.methods import METHODS, Examples, Frozen, cross_entropy, cross_entropy_of_scores, text_logits
from experiments.prepare import Inputs
from experiments.shared import Shared

TEXT_LOGITS_BYTES = 2**30  # text logits up to this size, or the features' own, are kept rather than made in every step
BLOCK_BYTES = 2**25  # of features whose text logits are computed at once


class Learner(NamedTuple):
    """All that the rounds need: functions, then the arrays they take."""

    local: LocalTraining
    server_optimizer: Callable
    accuracy: Callable
    zero_shot_accuracy: Callable
    params: object  # the server's at round 0
    problem: Problem
    client_rows: np.ndarray  # [C]
    bank: FeatureBank

    def score(self, accuracy: Callable, params) -> tuple[float, float | None]:
        """(test, validation) accuracy, 0..1, NaN where a logit is not finite; validation is None where the bank has
        none."""
        # From the host, so that it does not matter over how many devices they were trained.
        params, frozen = jax.device_get((params, self.problem.frozen))
        return measure(accuracy, params, frozen, self.bank.test), measure(
            accuracy, params, frozen, self.bank.validation
        )

    @property
    def clients(self) -> int:
        """C."""
        return len(self.client_rows)

    def start(self) -> ServerState:
        """The server before round 1."""
        return init_server(self.params, self.server_optimizer(self.problem.server))


def measure(accuracy: Callable, params, frozen: Frozen, split: Split | None) -> float | None:
    return None if split is None else accuracy(params, frozen, split.features, split.labels)


def build(config: ConfigDict, inputs: Inputs, shared: Shared | None = None) -> Learner:
    """Chooses the method, optimizers and sizes that the config names. The arrays lie on the host still, those to be
    tested on apart; what was made for an earlier config of a sweep is found in `shared`."""
    bank, division, method = inputs.bank, inputs.division, METHODS[config.method]
    shared = shared or Shared()
    local = local_training(config, int(division.sizes.max()))
    return Learner(
        local=local,
        server_optimizer=SERVER_OPTIMIZERS[server_optimizer(config)],
        accuracy=shared.once(accuracy_of, config.method),
        zero_shot_accuracy=shared.once(accuracy_of, "zero_shot"),
        params=method.init(inputs.keys),
        problem=problem(config, bank, division, shared),
        client_rows=division.sizes,
        bank=bank._replace(test=shared.once(on_device, bank.test), validation=shared.once(on_device, bank.validation)),
    )


def accuracy_of(method: str) -> Callable:
    """`make_accuracy` of a method by its name."""
    return make_accuracy(METHODS[method].logits)


def on_device(split: Split | None) -> Split | None:
    """What is evaluated again and again lies on the device; a CPU shares the host's copy."""
    return None if split is None else Split(*jax.device_put(tuple(split)))


def local_training(config: ConfigDict, largest: int) -> LocalTraining:
    """What a client of at most `largest` rows does."""
    method, local = METHODS[config.method], config.local
    linear = Linear(lambda examples: examples.features, cross_entropy_of_scores(method)) if method.linear else None
    batch_size, capacity = plan_batches(local.batch_size, largest)
    return LocalTraining(
        cross_entropy(method), CLIENT_OPTIMIZERS[client_optimizer(config)], local.epochs, batch_size, capacity, linear,
        shuffle=local.shuffle, proximal=local.proximal > 0, clip=local.clip_norm > 0,
        views=max(config.clip.train_views, 1),
    )  # fmt: skip


def client_optimizer(config: ConfigDict) -> str:
    """The engine's name for it: momentum costs a state, so that SGD has it only where it is used."""
    local = config.local
    if local.optimizer == "sgd" and local.momentum > 0:
        return "nesterov" if local.nesterov else "momentum"
    return local.optimizer


def server_optimizer(config: ConfigDict) -> str:
    """The engine's name for it, for the same reason."""
    optimizer, momentum = config.server.optimizer, server_numbers(config.server)["momentum"]
    return "momentum" if optimizer == "sgd" and momentum > 0 else optimizer


def problem(config: ConfigDict, bank: FeatureBank, division: Partition, shared: Shared) -> Problem:
    """The federation's arrays."""
    text = shared.once(text_of, bank.text_features, bank.classes, bank.width)
    frozen = Frozen(text, *(np.float32(x) for x in (bank.logit_scale, config.cache.alpha, config.cache.beta)))
    data = shared.once(examples_of, bank.train, bank.train_views, text, bank.logit_scale)
    clients = Clients(division.offsets.astype(np.int32), division.indices.astype(np.int32))
    if bank.train_views is not None:
        clients = repeat_views(clients, len(bank.train_views))
    numbers = {name: config.local[name] for name in Hyper._fields}
    numbers["clip_norm"] = numbers["clip_norm"] or np.inf
    return Problem(
        clients=clients,
        data=data,
        frozen=frozen,
        hyper=Hyper(**{name: np.float32(value) for name, value in numbers.items()}),
        server=ServerHyper(**{name: np.float32(value) for name, value in server_numbers(config.server).items()}),
        key=jax.random.key(config.seed),
    )


def examples_of(train: Split, views: np.ndarray | None, text: np.ndarray, logit_scale: float) -> Examples:
    """The rows of all clients, of all views one after the other, with their text logits where these are small."""
    data = Examples(train.features, train.labels)
    if views is not None:
        data = Examples(views.reshape(-1, views.shape[-1]), np.tile(train.labels, len(views)))
    if len(data.labels) * len(text) * 4 > max(TEXT_LOGITS_BYTES, data.features.nbytes):
        return data
    # alpha and beta take no part in them.
    frozen = Frozen(text, *map(np.float32, (logit_scale, 0, 0)))
    return data._replace(text_logits=text_logits_of(frozen, data.features))


def text_of(text: np.ndarray | None, classes: int, width: int) -> np.ndarray:
    """Class weights [N, D]; without text features the zero-shot term is zero."""
    return np.zeros((classes, width), np.float32) if text is None else np.asarray(text, np.float32)


def text_logits_of(frozen: Frozen, features: np.ndarray) -> np.ndarray:
    """Text logits [n, N] of all rows, on the host: block by block, as computing them takes another copy of the rows.

    Raises:
        UsageError: there is no memory for them.
    """
    shape = (len(features), len(frozen.text))
    check_room("data", "text logits of the training rows", math.prod(shape) * 4)
    logits, compute, step = empty(shape, np.float32), jax.jit(text_logits), max(BLOCK_BYTES // features[0].nbytes, 1)
    for start in range(0, len(features), step):
        logits[start : start + step] = compute(frozen, features[start : start + step])
    return logits


def diverged(config: ConfigDict, what: str) -> UsageError:
    """The refusal of training that has not stayed finite: its accuracy would be that of a guess."""
    allowed = f"a rate at which training stays finite ({what} did not)"
    return UsageError(
        "local.learning_rate", config.local.learning_rate, allowed, "lower it, or cache.alpha, in a new folder"
    )


def finite(scores: tuple[float, float | None], refusal: UsageError) -> tuple[float, float | None]:
    """What `Learner.score` gives, where every logit was a number.

    Raises:
        UsageError: the refusal; some were not.
    """
    if any(score is not None and math.isnan(score) for score in scores):
        raise refusal
    return scores
