"""The parts of a round that a config names, and their numbers."""

import contextlib
import itertools

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.compression import compressed, encoding_of
from cachefl_jax.config import server_numbers
from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.config.field import lookup
from cachefl_jax.config.hostile import strength_of
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    ClientWork,
    Federation,
    Hyper,
    Linear,
    LocalTraining,
    PartHyper,
    ServerHyper,
    Transform,
    plan_batches,
    with_personal_leaves,
)
from cachefl_jax.federation.hostile import BY_ITSELF
from cachefl_jax.methods import Method, Rows
from cachefl_jax.methods.method import loss_of_scores, training_loss
from cachefl_jax.named import find, users_code
from cachefl_jax.privacy.secure.distributed import noisy_encoder, noisy_sum
from cachefl_jax.privacy.secure.sums import secured, settings_of
from cachefl_jax.simulation.closed_forms import BATCH, aggregation_of, check_closed, own, work_of
from cachefl_jax.simulation.hostile import with_hostile
from cachefl_jax.simulation.privacy import examples_of, expected, noise_of, private, with_privacy


def component(config: ConfigDict, field: str):
    """The object that a field names, or the tuple of those that it does. Raises UsageError: it is not to be had."""
    value, table, kind = lookup(config, field), *COMPONENTS[field]
    if isinstance(value, str):
        return find(field, value, table, kind)
    return tuple(find(field, name, table, kind) for name in value)


def federation_of(config: ConfigDict, method: Method, largest: int) -> Federation:
    """What a round is made of, for clients of at most `largest` rows.

    Raises UsageError: as `check_closed`, `privacy.with_privacy` and `hostile.with_hostile`."""
    if method.closed_form is not None:
        check_closed(config, method)
    closed = method.closed_form
    federation = Federation(
        local_training(config, method, largest),
        SERVER_OPTIMIZERS[server_optimizer(config)],
        component(config, "participation.name"),
        config.cohort,
        tuple(transform for _, transform in chain(config, "updates")),
        aggregation_of(closed) if closed else component(config, "aggregation.name"),
        config.evaluation.drift and not closed,
        downloads=tuple(transform for _, transform in chain(config, "downloads")),
    )
    if private(config):
        federation = with_privacy(config, method, federation)
    if config.aggregation.name in SECURE:
        federation = with_secure_sum(config, federation)
    return federation if config.hostile.kind == "none" else with_hostile(config, method, federation)


def chain(config: ConfigDict, group: str) -> list[tuple[str, Transform]]:
    """(name, transform) of what happens to an update on its way, `group` being `updates` or `downloads`. Names that are
    parts of an encoding become the one transform that it is.

    Raises UsageError: as `component`."""
    names, found = config[group].transforms, component(config, f"{group}.transforms")
    feedback, links = group == "updates" and config.updates.error_feedback, []
    for coded, run in itertools.groupby(zip(names, found, strict=True), lambda link: link[1].code is not None):
        run = list(run)
        if coded:
            encoding = encoding_of(tuple(transform.code(config[group], group) for _, transform in run))
            run = [(run[0][0], compressed(encoding, group, feedback))]
        links += run
    return links


def with_secure_sum(config: ConfigDict, federation: Federation) -> Federation:
    """The federation whose clients encode what all other transforms leave. Raises UsageError: as `check_chain`."""
    check_chain(config, federation.transforms)
    settings = settings_of(config)
    if config.privacy.mechanism == "distributed":
        encoder, aggregation = noisy_encoder(settings), noisy_sum(settings, expected(config))
    else:
        encoder, aggregation = secured(config)
    return federation._replace(transforms=(*federation.transforms, encoder), aggregation=aggregation)


def check_chain(config: ConfigDict, transforms: tuple) -> None:
    """Refuses what a secure sum would undo. Raises UsageError: a transform that makes an update smaller."""
    for name, transform in zip(config.updates.transforms, transforms, strict=False):
        if transform.size is not None or transform.encoded is not None:
            allowed = f"none that saves bytes with aggregation.name={config.aggregation.name}, which sends every number"
            raise UsageError("updates.transforms", name, allowed, "leave it out, and lower secure.bits")


def hypers_of(config: ConfigDict, closed: bool) -> tuple[Hyper, ServerHyper, PartHyper]:
    """The traced numbers of the clients' optimizer, of the server's, and of the parts of a round of training, or of one
    of a closed form. Raises UsageError: as `privacy.noise_of`."""
    clients = {name: config.local[name] for name in Hyper._fields}
    clients["clip_norm"] = clients["clip_norm"] or np.inf
    server = {**{name: config.server[name] for name in ServerHyper._fields}, **server_numbers(config.server)}
    transforms = numbers_of(config, "updates")
    aggregation, mechanism = own_hyper(config, "aggregation.name", config.aggregation.name), ()
    if private(config):
        last, mechanism = noise_of(config, closed)
        transforms += last
    if config.privacy.mechanism == "distributed":
        aggregation, mechanism = mechanism, ()
    if config.aggregation.name in SECURE:
        transforms.append(aggregation)
    if config.hostile.kind in BY_ITSELF:
        transforms.insert(0, strength_of(config))
    downloads = tuple(numbers_of(config, "downloads"))
    parts = PartHyper(tuple(transforms), aggregation, mechanism, downloads, examples=examples_of(config))
    return jax.tree.map(np.float32, (Hyper(**clients), ServerHyper(**server), parts))


def numbers_of(config: ConfigDict, group: str) -> list:
    """The traced numbers of each transform of `chain`."""
    found, table = [], COMPONENTS[f"{group}.transforms"].table
    for name, transform in chain(config, group):
        with users_code(f"{group}.transforms", name) if name not in table else contextlib.nullcontext():
            found.append(transform.hyper(config))
    return found


def own_hyper(config: ConfigDict, field: str, name: str):
    """The traced numbers of an aggregation."""
    table, kind = COMPONENTS[field]
    with users_code(field, name) if name not in table else contextlib.nullcontext():
        return find(field, name, table, kind).hyper(config)


def local_training(config: ConfigDict, method: Method, largest: int) -> LocalTraining:
    """What a client of at most `largest` rows does."""
    local = config.local
    if method.closed_form is not None:
        batch_size, capacity = plan_batches(BATCH, largest)
        unrounded = own(config, method, "closed_form.dtype") == "float64"
        optimizer, work = CLIENT_OPTIMIZERS["sgd"], work_of(method.closed_form, unrounded)
        return LocalTraining(training_loss(method), optimizer, 1, batch_size, capacity, shuffle=False,
                             views=max(config.clip.train_views, 1), work=work)  # fmt: skip
    linear = Linear(features_of, loss_of_scores(method)) if method.linear and not method.loss else None
    batch_size, capacity = plan_batches(local.batch_size, largest)
    return LocalTraining(
        training_loss(method), CLIENT_OPTIMIZERS[client_optimizer(config)], local.epochs, batch_size, capacity, linear,
        shuffle=local.shuffle, proximal=local.proximal > 0, clip=local.clip_norm > 0,
        views=max(config.clip.train_views, 1), work=algorithm_of(config, method),
        compact="images" in method.inputs,  # whole towers
        private=config.privacy.mechanism == "dpsgd",
    )  # fmt: skip


def algorithm_of(config: ConfigDict, method: Method) -> ClientWork:
    """The clients' algorithm, with the leaves of the method that they keep for themselves.

    Raises UsageError: the algorithm has clients that do not all train the server's model."""
    work = component(config, "local.algorithm")
    if method.personal is None:
        return work
    try:
        return with_personal_leaves(work, method.personal)
    except ValueError as error:
        allowed = f"fedavg, scaffold or fednova with {method.label}: {error}"
        raise UsageError("local.algorithm", config.local.algorithm, allowed, "local.algorithm=fedavg") from error


def features_of(rows: Rows):
    return rows.features


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
