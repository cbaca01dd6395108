"""FedTPG: a small network that all clients share makes the context of a prompt out of the class names.

    A       = softmax(Q (T K)^T / sqrt(D))                   attention of queries to class names, [M, N]
    context = words + gelu(A T V H + h) P                    [M, W]

T [N, D] are the text features of the class names. Q, K, V, H, h and P are trained and travel; the context goes through
the text tower as PromptFL's does. `words` are the template's (prompt_fl.template, prompt_fl.context) and P starts at 0,
so that round 0 is PromptFL's; the paper starts at random. Its attention has several heads, this one has one. What the
paper is after is a network that makes prompts for names that no client has seen. Source: arXiv 2310.06123, section 3.2.

Axis letters: B batch, N classes, M context vectors, W the text tower's width, D features, J hidden units.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import RAISE, at_least
from cachefl_jax.methods import prompt_fl
from cachefl_jax.methods.method import Choice, Method, Rows, Server
from cachefl_jax.methods.prompt_fl import CONTEXT, TEMPLATE, Prompt, context_at_start
from cachefl_jax.precision import run_precision


class Generator(NamedTuple):
    """All that is trained and all that travels."""

    queries: jax.Array  # Q [M, D]
    keys: jax.Array  # K [D, D]
    values: jax.Array  # V [D, D]
    hidden: jax.Array  # H [D, J]
    bias: jax.Array  # h [J]
    output: jax.Array  # P [J, W]


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    prompt: prompt_fl.Frozen
    names: jax.Array  # T [N, D]
    words: jax.Array  # [M, W]


def init(server: Server, config: ConfigDict) -> Generator:
    """Normal matrices that keep lengths, and an output of 0."""
    (count, width), features = context_at_start(server, config).shape, server.text.shape[1]
    rng, units = np.random.default_rng(config.seed), config.fed_tpg.hidden
    shapes = (count, features), (features, features), (features, features), (features, units)
    drawn = [(rng.normal(size=shape) / np.sqrt(features)).astype(np.float32) for shape in shapes]
    return Generator(*drawn, np.zeros(units, np.float32), np.zeros((units, width), np.float32))


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(prompt_fl.freeze(server, config), server.text, context_at_start(server, config))


def generated(generator: Generator, frozen: Frozen) -> Prompt:
    """The prompt that the network makes of the class names."""
    with run_precision():
        scores = generator.queries @ (frozen.names @ generator.keys).T / np.sqrt(frozen.names.shape[1])
        mixed = jax.nn.softmax(scores, axis=1) @ (frozen.names @ generator.values)
        units = jax.nn.gelu(mixed @ generator.hidden + generator.bias[None], approximate=False)
        return Prompt(jnp.asarray(frozen.words) + units @ generator.output)


def logits(generator: Generator, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N], of PromptFL with the generated context."""
    return prompt_fl.logits(generated(generator, frozen), frozen.prompt, rows)


def artefact(generator: Generator, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network, and PromptFL's artefact for these classes."""
    arrays, told = prompt_fl.artefact(jax.jit(generated)(generator, frozen), frozen.prompt)
    return arrays | generator._asdict(), told


# fmt: off
fed_tpg = Method(
    label="FedTPG",
    init=init,
    logits=logits,
    freeze=freeze,
    search=(Choice("local.learning_rate", (3e-4, 1e-3, 3e-3, 1e-2)),),
    fields=(
        TEMPLATE,
        CONTEXT,
        Field("fed_tpg.hidden", 64, "hidden units of the network that makes the context", *at_least(1), RAISE),
    ),
    check=prompt_fl.check,
    artefact=artefact,
    restore=prompt_fl.restore,
    explanation="a network that makes a prompt of the class names, tuned at the clients, averaged by the server",
    privacy="A client sends a tuned network and no image. Each gradient of it is made of the gradient of a few context "
    "vectors, and tells no more of a batch's features and labels than these; how much that is was not measured.",
)
