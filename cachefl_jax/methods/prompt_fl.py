"""PromptFL: context vectors in place of a template's words, tuned through CLIP's frozen text tower and averaged.

    text[n] = g([start] context[1] ... context[M] [name n] [end]), divided by its length
    z[b,n]  = s f[b] . text[n]                               logits

g is the text tower, from token embeddings to a feature. It runs in every step, once a batch and not once a row. The
context is all that is trained and all that travels. Each class has a context of its own where
prompt_fl.class_specific, as CoOp has it. Sources: PromptFL, arXiv 2208.11625; CoOp, arXiv 2109.01134, eq. 2 and 3,
which is prompt_fl@centralized.

Axis letters: B batch, N classes, M context vectors, T tokens, W the text tower's width, D features.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import NONE, SWITCH, TEXT, at_least
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.cachefl import shortest
from cachefl_jax.methods.method import Choice, Method, Rows, Server
from cachefl_jax.methods.zero_shot import restore
from cachefl_jax.precision import run_precision
from cachefl_jax.templates import check_templates, fill

if TYPE_CHECKING:
    from flax import nnx

BLOCK_TOKENS = 1024  # of the classes that pass the text tower at a time: 0.5 GiB of activations in a ViT-B/32
DEVIATION = 0.02  # of a context that is drawn: CoOp's, and that of CLIP's own embeddings before training
STAND_IN = "x"  # a word of one token, whose place a vector takes


class Prompt(NamedTuple):
    """All that is trained and all that travels."""

    context: jax.Array  # [M, W] float32, or [N, M, W]


class Frozen(NamedTuple):
    """The text tower, and the tokens of every class that stay."""

    graph: "nnx.GraphDef"  # the tower without its arrays: static
    tower: Any  # its arrays, the token embeddings not among them
    before: jax.Array  # [0 or 1, W] the embedding of the start token, where texts have one
    after: jax.Array  # [N, T - M - len(before), W] embeddings from the name on
    positions: jax.Array  # [T, W]
    ends: jax.Array  # [N] int32 positions that the tower reads
    logit_scale: jax.Array  # []


class Texts(NamedTuple):
    """The tokens of every class's text, and which of them the context takes the place of."""

    ids: np.ndarray  # [N, T]
    first: int
    count: int  # M


def texts_of(server: Server, config: ConfigDict) -> Texts:
    """The texts that the template makes of the class names, with stand-ins for a context that is drawn.

    Raises UsageError: there is no encoder, a text is too long for it, or nothing stands before the name."""
    encoder, own = server.encoder(), config.prompt_fl
    field, template = "prompt_fl.template", own.template or server.templates[0]
    start, rest = template.split("{}")
    if own.context:
        field, start = "prompt_fl.context", f"{STAND_IN} " * own.context
    ids = token_ids(encoder, server.class_names, start + "{}" + rest, field)
    (alone,) = encoder.tokenizer([fill(start, "").strip()])
    differs = (ids != alone[None]).any(axis=0)
    first = int(alone[0] == getattr(encoder.tokenizer, "start", None))
    count = int(np.argmax(differs)) - first
    if count < 1 or (own.context and count != own.context):
        allowed = "a text with words before its {} that the tokenizer keeps apart from the name"
        raise UsageError(field, own.context or template, allowed, 'say, prompt_fl.template="a photo of a {}."')
    return Texts(ids, first, count)


def token_ids(encoder, class_names: tuple[str, ...], template: str, field: str) -> np.ndarray:
    """Token ids [N, T] of a template. Raises UsageError: as `tokenized`; `field` made a text too long."""
    from cachefl_jax.clip.encoder import tokenized

    try:
        return tokenized(encoder, class_names, (template,))
    except UsageError as error:
        if error.field != "clip.templates":
            raise
        raise UsageError(field, error.value, error.allowed, "shorten it, or the names of these classes") from error


def init(server: Server, config: ConfigDict) -> Prompt:
    """The context at round 0, of all classes or of each."""
    if not config.prompt_fl.class_specific:
        return Prompt(context_at_start(server, config))
    return Prompt(context_at_start(server, config, len(server.class_names)))


def context_at_start(server: Server, config: ConfigDict, *leading: int) -> np.ndarray:
    """The embeddings of the template's words, or normal vectors, [*leading, M, W] float32."""
    ids, first, count = texts_of(server, config)
    words = token_embeddings(server)[ids[0, first : first + count]]
    if not config.prompt_fl.context:
        return np.broadcast_to(words, (*leading, *words.shape)).copy()
    drawn = np.random.default_rng(config.seed).normal(0, DEVIATION, (*leading, *words.shape))
    return drawn.astype(np.float32)


def token_embeddings(server: Server) -> np.ndarray:
    """[V, W] float32, one of each token of the vocabulary."""
    return np.asarray(server.encoder().model.text_model.embeddings.token_embedding.embedding[...], np.float32)


def freeze(server: Server, config: ConfigDict) -> Frozen:
    from flax import nnx

    from cachefl_jax.clip.costs import IMAGE
    from cachefl_jax.clip.encoder import without

    model, (ids, first, count) = server.encoder().model, texts_of(server, config)
    ends = np.full(len(ids), ids.shape[1] - 1)
    if hasattr(model.text_model, "end_positions"):  # CLIP's: causal, so that nothing reads what stands after the end
        ends = np.asarray(model.text_model.end_positions(ids))
        ids = ids[:, : ends.max() + 1]
    positions = np.asarray(model.text_model.embeddings.position_embedding.embedding[...], np.float32)
    embedded = token_embeddings(server)[ids]
    part = without(model, IMAGE)
    del part.text_model.embeddings
    graph, arrays = nnx.split(part)
    return Frozen(
        graph, nnx.to_pure_dict(arrays), embedded[0, :first], embedded[:, first + count :],
        positions[: ids.shape[1]], ends.astype(np.int32), np.float32(server.logit_scale),
    )  # fmt: skip


def class_weights(prompt: Prompt, frozen: Frozen) -> jax.Array:
    """text[n], [N, D]: unit rows out of the text tower."""
    classes, length = len(frozen.ends), len(frozen.positions)
    contexts = jnp.broadcast_to(prompt.context, (classes, *prompt.context.shape[-2:]))

    def features(contexts: jax.Array, after: jax.Array, ends: jax.Array) -> jax.Array:
        from flax import nnx

        before = jnp.broadcast_to(frozen.before, (len(ends), *frozen.before.shape))
        embedded = jnp.concatenate([before, contexts, after], axis=1) + frozen.positions[None]
        return nnx.merge(frozen.graph, frozen.tower).features_of_embedded(embedded, ends)

    found = by_blocks(features, (contexts, frozen.after, frozen.ends), max(BLOCK_TOKENS // length, 1))
    return found / jnp.linalg.norm(found, axis=1, keepdims=True)


def by_blocks(compute: Callable, arrays: tuple[jax.Array, ...], most: int) -> jax.Array:
    """compute(*arrays) [N, D] by blocks of at most `most` of their N rows.

    Memory holds one block: what its gradient needs is computed again on the way back."""
    rows = len(arrays[0])
    if rows <= most:
        return compute(*arrays)
    blocks = -(-rows // most)
    size = -(-rows // blocks)
    places = jnp.minimum(jnp.arange(blocks * size), rows - 1).reshape(blocks, size)  # the last row fills up
    block = jax.checkpoint(compute, prevent_cse=False)
    found = jax.lax.map(lambda place: block(*(jnp.asarray(array)[place] for array in arrays)), places)
    return found.reshape(blocks * size, -1)[:rows]


def logits(prompt: Prompt, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    with run_precision():
        return frozen.logit_scale * rows.features @ class_weights(prompt, frozen).T


def artefact(prompt: Prompt, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The context, and the class weights that it makes: to classify takes no text tower."""
    arrays = {"context": prompt.context, "text": jax.jit(class_weights)(prompt, frozen)}
    return arrays, {"logit_scale": shortest(frozen.logit_scale)}


def check(config: ConfigDict) -> None:
    """Whether the template is one."""
    if config.prompt_fl.template:
        check_templates("prompt_fl.template", (config.prompt_fl.template,))


# fmt: off
TEMPLATE = Field("prompt_fl.template", "", "a text with one {}: the words before it start the context, those after it "
                 "stay; nothing = the first of clip.templates", *TEXT, NONE)
CONTEXT = Field("prompt_fl.context", 0, "vectors of a context that starts at random, instead of at the template's "
                "words; 0 = at these", *at_least(0), "0 starts at the template's words")
prompt_fl = Method(
    label="PromptFL",
    init=init,
    logits=logits,
    freeze=freeze,
    search=(
        Choice("local.learning_rate", (3e-4, 1e-3, 3e-3, 1e-2)),
        Choice("prompt_fl.class_specific", (False, True)),
    ),
    fields=(
        TEMPLATE,
        CONTEXT,
        Field("prompt_fl.class_specific", False, "each class has a context of its own", *SWITCH, NONE),
    ),
    check=check,
    artefact=artefact,
    restore=restore,
    explanation="a prompt's context, tuned at the clients through the text tower, averaged by the server",
    privacy="A client sends a few tuned vectors and no image. They move along gradients of its batches, which depend "
    "on features and labels; how much of these a few vectors tell was not measured. With a context for each class, "
    "those of the client's own classes move most, which tells its labels.",
)
