"""FedCLIP: attention over the channels of the image features. Lu et al., arXiv 2302.13485, section 3.

    a[b]   = softmax(W2 tanh(W1 f[b] + b1) + b2)             W1, W2 [D, D]; b1, b2 [D]
    z[b,n] = s normalised(a[b] f[b]) . text[n]

Layers and the length of 1 are the public code's; without that length the logits would hardly differ, as softmax spreads
1 over D channels. What is otherwise here: the loss is the classes' cross-entropy, as for every method (the paper's is
CLIP's, over the pairs of a batch), and features have length 1 before they meet W1. The paper averages clients equally,
aggregation.name=uniform, and trains with Adam at 5e-5: local.optimizer=adamw.

Axis letters: B batch, N classes, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cachefl_jax.methods.method import Method, Rows, Server, Text, text_of
from cachefl_jax.methods.on_features import dense, need_text, normalised, rates


class Adapter(NamedTuple):
    """All that is trained and all that travels."""

    hidden: jax.Array  # W1, [D, D]
    hidden_bias: jax.Array  # b1, [D]
    attention: jax.Array  # W2, [D, D]
    attention_bias: jax.Array  # b2, [D]


def init(server: Server, config: ConfigDict) -> Adapter:
    """Random weights by the run's seed, as PyTorch's layers start. Raises UsageError: there are no texts."""
    need_text(server, "fed_clip")
    width = server.text.shape[1]
    return Adapter(*dense(config, (width, width), (width,), (width, width), (width,)))


def freeze(server: Server, config: ConfigDict) -> Text:
    del config
    return text_of(server)


def adapted(adapter: Adapter, features: jax.Array) -> jax.Array:
    """Features in their attended channels, of length 1, [B, D], of features [B, D]."""
    hidden = jnp.tanh(features @ adapter.hidden.T + adapter.hidden_bias[None])
    attention = jax.nn.softmax(hidden @ adapter.attention.T + adapter.attention_bias[None])
    return normalised(attention * features)


def logits(adapter: Adapter, frozen: Text, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return frozen.logit_scale * adapted(adapter, rows.features) @ frozen.text.T


fed_clip = Method(
    label="FedCLIP",
    init=init,
    logits=logits,
    freeze=freeze,
    search=rates(3e-4, 1e-3, 3e-3, 1e-2),
    explanation="attention over the channels of the image features",
    privacy="A client sends the weights of two layers with biases. From a single sample's gradient its feature follows "
    "exactly: that of the first layer's weights is the feature times that of its bias.",
)
