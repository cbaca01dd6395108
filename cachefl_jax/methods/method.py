"""What a method is: a few pure functions over a params pytree, as optax makes optimizers.

A method is one file that says everything about itself: what travels, what stays frozen, what it reads of a row, its
logits, its own config fields, and what a user deploys of it. A config names it: ``method=NAME`` for ours (the table in
`cachefl_jax.config.method`), ``method=package.module:name`` or ``method=path/to/file.py:name`` for any other.

Axis letters: B batch, N classes, K keys a class, D features, H W image, n rows.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from cachefl_jax.config.field import Field
from cachefl_jax.errors import UsageError
from cachefl_jax.precision import in_single, run_precision

Params = Any
Frozen = Any
MODEL = "model.safetensors"


def no_encoder() -> NoReturn:
    """The encoder of a feature bank, which tells of none. Raises UsageError: always."""
    allowed = "a method that asks for no encoder: a feature bank tells nothing of its own"
    raise UsageError("method", "one that asks for the encoder", allowed, "bring images: data.name=image_folder")


class Server(NamedTuple):
    """What the server brings before round 1; arrays of the host."""

    synthetic: np.ndarray  # [N, K, D] float32, features of the server's images, class by class: the cache at round 0
    text: np.ndarray  # [N, D] float32 class weights, L2-normalised rows; zeros where a bank has none
    logit_scale: float
    class_names: tuple[str, ...]  # N of them
    encoder: Callable[[], Any] = no_encoder  # () -> the run's `cachefl_jax.clip.Encoder`, loaded by the call
    templates: tuple[str, ...] = ()  # texts with one {} that `text` was made of; none for a bank


class Rows(NamedTuple):
    """Rows that are trained or evaluated on; a method names what it reads beside the labels (`Method.inputs`)."""

    labels: jax.Array  # [n] int32
    features: jax.Array | None = None  # [n, D] float32, L2-normalised
    text_logits: jax.Array | None = None  # [n, N] s f . text, where they are computed once a run; None: in every step
    images: jax.Array | None = None  # [n, H, W, 3] uint8, resized and cropped as the run's encoder wants them


class Choice(NamedTuple):
    """A field of the config, and the values of it that a study may choose among."""

    field: str  # dotted
    values: tuple


class ClosedForm(NamedTuple):
    """A method whose clients do not train but count: the server solves what their statistics add up to, in one round.

    A client adds up its rows' statistics in float64 and sends them with fewer bits; the server adds up and solves in
    float64 and rounds the params to float32. What adds up does not depend on who holds which rows, nor on how many
    clients there are, but for that rounding.

    Attributes:
        statistics: (frozen, rows [n, ...], valid [n] bool) -> a pytree of sums over the valid rows. Traced.
        solve: (the statistics of all clients, frozen) -> params, finite whatever rows there are. Traced; float64 is
            what it says.
        collect: `solve` takes each client's statistics, [M, ...], zeros where nobody is, instead of their sum.
        rows_a_class: the run is refused where there are no more rows than so many a class.
        packed: a client's sums -> what it sends of them.
    """

    statistics: Callable[[Frozen, Rows, jax.Array], Any]
    solve: Callable[[Any, Frozen], Params]
    collect: bool = False
    rows_a_class: int = 0
    packed: Callable[[Any], Any] = in_single


class Text(NamedTuple):
    """What zero-shot CLIP is made of: the least that `text_logits` reads of a method's frozen pytree."""

    text: jax.Array  # [N, D] class weights
    logit_scale: jax.Array  # []


def text_of(server: Server) -> Text:
    """The server's class weights and logit scale, as a `freeze` hands them on."""
    return Text(server.text, np.float32(server.logit_scale))


def text_logits(frozen: Frozen, rows: Rows) -> jax.Array:
    """s f[b] . text[n], [B, N]: the logits of zero-shot CLIP, to which a method may add its own.

    Args:
        frozen: a pytree with the fields `text` and `logit_scale`.
        rows: with text logits, which are then the answer, or with features.
    """
    if rows.text_logits is not None:
        return rows.text_logits
    with run_precision():
        return frozen.logit_scale * rows.features @ frozen.text.T


def nothing(server: Server, config: ConfigDict) -> tuple[()]:
    """No params, or nothing frozen."""
    del server, config
    return ()


def leaves_by_name(params: Params, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The default artefact: every leaf of the params under its path, such as "layer.kernel"; no metadata."""
    del frozen
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    return {name(path) or "params": leaf for path, leaf in leaves}, {}


class Restored(NamedTuple):
    """A model that was read from its file: `logits(params, frozen, rows)` are those of the run that left it."""

    logits: Callable[[Params, Frozen, Rows], jax.Array]
    params: Params
    frozen: Frozen


class Method(NamedTuple):
    """A way to classify images by CLIP. All functions are pure and, where they see rows, traced.

    Attributes:
        label: what tables and reports call it.
        init: (server, config) -> params, the server's at round 0. What they hold is what travels.
        logits: (params, frozen, rows) -> [B, N].
        freeze: (server, config) -> a pytree of arrays that every client holds and nobody trains. Numbers in it are
            traced: another value compiles nothing anew.
        linear: (scores [B, *J], frozen, rows) -> [B, N], the logits where the params are one array W [*J, D] that meets
            the rows only in scores = f W^T. Training may then run on coefficients. Read only without a `loss`.
        inputs: what `rows` hold beside labels, out of "features", "text_logits" and "images". "text_logits" brings
            "features", as text logits that are too large for memory are computed from them in every step.
        loss: (params, frozen, rows) -> [B]; None: softmax cross-entropy of the logits.
        closed_form: its one round, where it is solved and not trained; `loss` and `linear` are not read then.
        personal: params -> a pytree of bools: leaves that a client keeps for itself; they never travel, and the client
            is scored with its own.
        search: what a study tries; a field that is not named keeps its value.
        fields: its own config fields, dotted names in a group of its own, such as "probe.scale".
        check: (config) -> None; raises a UsageError where fields contradict each other.
        artefact: (params, frozen) -> (arrays by name, JSON values by name), what a user deploys.
        restore: (arrays, JSON values) of the artefact's file, where "text" [N, D] and "logit_scale" are always, ->
            `Restored`; None: nothing predicts from the file without the method's own code.
        file: the name of the artefact's file, a safetensors.
        explanation: half a sentence for tables: how it is trained.
        untrained: what tables call it at round 0; "" = "LABEL at round 0".
        privacy: sentences on what leaves a client and what it tells of its images; "" = that nothing is known of it.
    """

    label: str
    init: Callable[[Server, ConfigDict], Params]
    logits: Callable[[Params, Frozen, Rows], jax.Array]
    freeze: Callable[[Server, ConfigDict], Frozen] = nothing
    linear: Callable[[jax.Array, Frozen, Rows], jax.Array] | None = None
    inputs: tuple[str, ...] = ("features",)
    loss: Callable[[Params, Frozen, Rows], jax.Array] | None = None
    closed_form: ClosedForm | None = None
    personal: Callable[[Params], Any] | None = None
    search: tuple[Choice, ...] = ()
    fields: tuple[Field, ...] = ()
    check: Callable[[ConfigDict], None] | None = None
    artefact: Callable[[Params, Frozen], tuple[dict[str, Any], dict[str, Any]]] = leaves_by_name
    restore: Callable[[dict[str, Any], dict[str, Any]], Restored] | None = None
    file: str = MODEL
    explanation: str = "trained at the clients, aggregated by the server"
    untrained: str = ""
    privacy: str = ""


def cross_entropy(logits: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The loss of logits: (params or scores, frozen, rows) -> softmax cross-entropy of each row, [B]."""

    def loss(given, frozen: Frozen, rows: Rows) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(given, frozen, rows), rows.labels)

    return loss


# Remembered, so that the points of a sweep have one loss and what is compiled for it is compiled once.
@functools.cache
def training_loss(method: Method) -> Callable[[Params, Frozen, Rows], jax.Array]:
    """What a client minimises: (params, frozen, rows) -> loss of each row, [B]."""
    return method.loss or cross_entropy(method.logits)


@functools.cache
def loss_of_scores(method: Method) -> Callable[[jax.Array, Frozen, Rows], jax.Array]:
    """`training_loss` by the method's linear view: (scores [B, *J], frozen, rows) -> loss of each row, [B]."""
    return cross_entropy(method.linear)
