"""Full fine-tuning: both of CLIP's towers tuned at the clients and averaged, FedAvg's (arXiv 1602.05629) on CLIP.

    text[n]  = unit(mean_p unit(T(prompt[n,p])))        class weights, out of the text tower in every step
    z[b,n]   = exp(t) unit(I(x[b])) . text[n]           logits

I, T and the logarithm t of the logit scale are trained; as CLIP was, Radford et al., arXiv 2103.00020, but by the
cross-entropy over the classes. The batch norms of a residual tower keep their running statistics, while their scales
and shifts are trained. What travels is the whole model, so that this is what a cache's bytes are set against.

Axis letters: B batch, N classes, P templates, T tokens, D features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cachefl_jax.clip import Encoder
from cachefl_jax.clip.encoder import tokenized
from cachefl_jax.clip.weights import stored_tensors
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import SWITCH
from cachefl_jax.methods.method import Choice, Method, Rows, Server
from cachefl_jax.methods.towers import AT_ONCE, Towers, class_weights, image_features, taken_apart
from cachefl_jax.precision import run_precision

TRAIN_SCALE = Field(
    "full_fine_tuning.train_scale", True, "whether the logit scale is trained too", *SWITCH, "choose one of these"
)
SHIFT = "logit_bias"  # SigLIP's, which moves all classes' logits alike: nothing to train


class Frozen(NamedTuple):
    """What nobody trains."""

    towers: Towers
    ids: jax.Array  # [N, P, T] token ids of every class's texts


def apart(server: Server, config: ConfigDict) -> tuple[Towers, dict[str, Any]]:
    """(what is frozen of the run's CLIP, what is trained)."""
    kept = (SHIFT,) if config.full_fine_tuning.train_scale else (SHIFT, "logit_scale")
    return taken_apart(server.encoder(), config, nnx.All(nnx.Param, lambda path, _: path[0] not in kept))


def init(server: Server, config: ConfigDict) -> dict[str, Any]:
    """The checkpoint's weights."""
    return apart(server, config)[1]


def freeze(server: Server, config: ConfigDict) -> Frozen:
    ids = read_part(server.encoder(), tokenized(server.encoder(), server.class_names, server.templates))
    return Frozen(apart(server, config)[0], ids.reshape(len(server.class_names), -1, ids.shape[-1]))


def read_part(encoder: Encoder, ids: np.ndarray) -> np.ndarray:
    """Token ids [n, T] without what no text is read at: a causal tower's feature does not know what follows its end."""
    tower = encoder.model.text_model
    if not hasattr(tower, "end_positions"):  # SigLIP's, which reads the last token and attends to the filling
        return ids
    return ids[:, : int(np.max(tower.end_positions(ids))) + 1]


def logits(params: dict[str, Any], frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    model = frozen.towers.model(params)
    features = image_features(model, frozen.towers.numbers, rows.images)
    with run_precision():
        return jnp.exp(model.logit_scale[...]).reshape(()) * features @ class_weights(model, frozen.ids).T


def artefact(params: dict[str, Any], frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's weights under the names of Hugging Face's checkpoints: of a CLIP, its new model.safetensors."""
    return stored_tensors(nnx.to_pure_dict(nnx.state(frozen.towers.model(params)))), {}


full_fine_tuning = Method(
    label="full fine-tuning",
    init=init,
    logits=logits,
    freeze=freeze,
    inputs=("images",),
    search=(Choice("local.learning_rate", (1e-5, 1e-4, 1e-3)),),
    fields=(TRAIN_SCALE, AT_ONCE),
    artefact=artefact,
    explanation="both towers tuned at the clients, averaged by the server",
    untrained="CLIP before fine-tuning",
    privacy="A client sends the change of all weights and no image. Such a change tells the most of all methods here: "
    "images of small batches have been rebuilt from whole gradients (arXiv 1906.08935, 2003.14053), and patch "
    "embeddings and their positions lie nearest to the pixels. Secure aggregation and clipping with noise would hide "
    "them; how well, only a measured leak says.",
)
