"""A config and its inputs to compiled functions and arrays on the device."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cachefl_jax.data import FeatureBank, Partition, Split
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Hyper,
    LocalTraining,
    make_accuracy,
    make_alone,
    make_round,
    plan_batches,
)
from cachefl_jax.methods import METHODS, Examples, Frozen, cross_entropy
from experiments.prepare import Inputs

WIDE_CHUNK = 64  # clients side by side on an accelerator


class Learner(NamedTuple):
    """All that the rounds need: functions, then the arrays they take."""

    round: Callable
    alone: Callable
    central: Callable
    accuracy: Callable
    zero_shot_accuracy: Callable
    server_optimizer: optax.GradientTransformation
    params: object  # the server's at round 0
    clients: Clients
    data: Examples
    frozen: Frozen
    hyper: Hyper
    key: jax.Array
    bank: FeatureBank

    def score(self, bank: FeatureBank, accuracy: Callable, params) -> tuple[float, float | None]:
        """(test, validation) accuracy, 0..1; validation is None where the bank has none."""
        return measure(accuracy, params, self.frozen, bank.test), measure(
            accuracy, params, self.frozen, bank.validation
        )


def measure(accuracy: Callable, params, frozen: Frozen, split: Split | None) -> float | None:
    return None if split is None else accuracy(params, frozen, split.features, split.labels)


def build(config: ConfigDict, inputs: Inputs) -> Learner:
    """Chooses the method, optimizers and sizes that the config names."""
    bank, division = inputs.bank, inputs.division
    method = METHODS[config.method]
    loss, optimizer = cross_entropy(method), CLIENT_OPTIMIZERS[config.local.optimizer]

    def training(largest: int) -> LocalTraining:
        return LocalTraining(loss, optimizer, config.local.epochs, *plan_batches(config.local.batch_size, largest))

    server = config.server
    server_optimizer = SERVER_OPTIMIZERS[server.optimizer](server.learning_rate, server.momentum)
    local = training(int(division.sizes.max()))
    return Learner(
        round=make_round(local, server_optimizer, choose_chunk(config), config.engine.devices),
        alone=make_alone(local),
        central=make_alone(training(len(bank.train.labels))),
        accuracy=make_accuracy(method.logits),
        zero_shot_accuracy=make_accuracy(METHODS["zero_shot"].logits),
        server_optimizer=server_optimizer,
        params=method.init(jnp.asarray(inputs.keys)),
        clients=place_clients(division),
        data=Examples(jnp.asarray(bank.train.features), jnp.asarray(bank.train.labels)),
        frozen=freeze(config, bank),
        hyper=optimizer_numbers(config),
        key=jax.random.key(config.seed),
        bank=bank,
    )


def freeze(config: ConfigDict, bank: FeatureBank) -> Frozen:
    """What every client holds and nobody trains; without text features the zero-shot term is zero."""
    text = jnp.zeros((bank.classes, bank.width)) if bank.text_features is None else jnp.asarray(bank.text_features)
    return Frozen(
        text, *(jnp.asarray(x, jnp.float32) for x in (bank.logit_scale, config.cache.alpha, config.cache.beta))
    )


def optimizer_numbers(config: ConfigDict) -> Hyper:
    """The clients' optimizer's numbers, float32."""
    return Hyper(*(jnp.asarray(config.local[name], jnp.float32) for name in Hyper._fields))


def place_clients(division: Partition) -> Clients:
    """The partition as index arrays on the device."""
    return Clients(jnp.asarray(division.offsets, jnp.int32), jnp.asarray(division.indices, jnp.int32))


def choose_chunk(config: ConfigDict) -> int:
    """Clients side by side: on a CPU one (cache locality wins), on an accelerator many; a multiple of the devices."""
    wanted = config.engine.client_chunk or (1 if jax.default_backend() == "cpu" else WIDE_CHUNK)
    devices = config.engine.devices
    if config.engine.client_chunk and wanted % devices:
        allowed = f"a multiple of engine.devices, {devices}"
        raise UsageError("engine.client_chunk", wanted, allowed, "round it up, or 0 to let the engine choose")
    whole = -(-wanted // devices) * devices
    return min(whole, -(-config.partition.clients // devices) * devices)


def use_devices(count: int) -> None:
    """Makes sure that there are `count` devices; on a CPU, splits it into as many before JAX first looks.

    Raises:
        UsageError: there are fewer.
    """
    if count > 1:
        with contextlib.suppress(RuntimeError):  # JAX is already running: what it has is counted below
            jax.config.update("jax_num_cpu_devices", count)
    if jax.device_count() < count:
        raise UsageError("engine.devices", count, f"1 to {jax.device_count()}, the devices there are", "lower it")
