"""A config and its inputs to functions and arrays."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import server_numbers
from cachefl_jax.data import FeatureBank, Split
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Hyper,
    Linear,
    LocalTraining,
    Problem,
    ServerHyper,
    ServerState,
    init_server,
    make_accuracy,
    plan_batches,
)
from cachefl_jax.methods import METHODS, Frozen, cross_entropy, cross_entropy_of_scores
from cachefl_jax.simulation.examples import bank_clients, bank_examples, ordered_examples
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.shared import Shared


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


def build(config: ConfigDict, inputs: Inputs, shared: Shared | None = None, ordered: bool = False) -> Learner:
    """Chooses the method, optimizers and sizes that the config names. The arrays lie on the host still, those to be
    tested on apart.

    Args:
        config: a run's, or that of a sweep's point.
        inputs: of `prepare`.
        shared: where what was made for an earlier config of a sweep is found.
        ordered: lays the training rows out client after client; else they are as in the bank, which points share.

    Raises:
        UsageError: there is no memory on the host for the rows.
    """
    bank, method = inputs.bank, METHODS[config.method]
    shared = shared or Shared()
    local = local_training(config, int(inputs.division.sizes.max()))
    return Learner(
        local=local,
        server_optimizer=SERVER_OPTIMIZERS[server_optimizer(config)],
        accuracy=shared.once(accuracy_of, config.method),
        zero_shot_accuracy=shared.once(accuracy_of, "zero_shot"),
        params=method.init(inputs.keys),
        problem=problem(config, inputs, shared, ordered),
        client_rows=inputs.division.sizes,
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


def problem(config: ConfigDict, inputs: Inputs, shared: Shared, ordered: bool) -> Problem:
    """The federation's arrays."""
    bank = inputs.bank
    text = shared.once(text_of, bank.text_features, bank.classes, bank.width)
    frozen = Frozen(text, *(np.float32(x) for x in (bank.logit_scale, config.cache.alpha, config.cache.beta)))
    clients = bank_clients(bank, inputs.division)
    if ordered:
        clients, data = ordered_examples(bank, clients, text)
    else:
        data = shared.once(bank_examples, bank.train, bank.train_views, text, bank.logit_scale)
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


def text_of(text: np.ndarray | None, classes: int, width: int) -> np.ndarray:
    """Class weights [N, D]; without text features the zero-shot term is zero."""
    return np.zeros((classes, width), np.float32) if text is None else np.asarray(text, np.float32)


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
