"""LoRA on the image tower: low-rank matrices beside frozen projections. Hu et al., arXiv 2106.09685, section 4.1.

    y = x W + (alpha / r) (x A) B       A [inputs, r] ~ N(0, 1/inputs), B [r, outputs] = 0 at round 0
    z[b,n] = s unit(I(x[b])) . text[n]  logits; s and the class weights are CLIP's own

A and B travel and are averaged each by itself: the mean of products A B is not the product of the means, which is
FedAvg's error here (arXiv 2403.12313 tells of it). What a user deploys is the merged W + (alpha / r) A B.

Axis letters: B batch, N classes, D features.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cachefl_jax.clip.weights import stored_tensors
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, at_least, finite
from cachefl_jax.methods.method import Choice, Method, Rows, Server
from cachefl_jax.methods.towers import AT_ONCE, Tuned, image_logits, transformer, tuned

PLACES = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), "self_attn"),
    **dict.fromkeys(("fc1", "fc2"), "mlp"),
}  # of a block's projections
Params = dict[str, dict[str, jax.Array]]  # {"0.q_proj": {"A": [inputs, r], "B": [r, outputs]}, ...}


def some_projections(names: tuple[str, ...]) -> bool:
    return 0 < len(names) == len(set(names)) and set(names) <= set(PLACES)


# fmt: off
FIELDS = (
    Field("lora.rank", 4, "rank of a projection's change", *at_least(1), "raise it to 1 or more"),
    Field("lora.alpha", 8.0, "weight of the change, which is multiplied by alpha / rank",
          *finite(), FINITE, traced=True),
    Field("lora.projections", ("q_proj", "v_proj"), "projections of every block that are changed",
          some_projections, f"texts out of {', '.join(PLACES)}, each once", "name one or more of them"),
    AT_ONCE,
)
# fmt: on


def projections(tower: nnx.Module, names: tuple[str, ...]) -> dict[str, tuple[nnx.Module, str]]:
    """(what holds it, its name) of every projection that these names stand for, by the number of its block."""
    layers = enumerate(tower.encoder.layers)
    return {f"{number}.{name}": (getattr(layer, PLACES[name]), name) for number, layer in layers for name in names}


def init(server: Server, config: ConfigDict) -> Params:
    """A is drawn by the run's seed, and B is 0: at round 0 the tower is CLIP's own."""
    rng, rank, params = np.random.default_rng(config.seed), config.lora.rank, {}
    for place, (part, name) in projections(transformer(server, "lora"), config.lora.projections).items():
        inputs, outputs = getattr(part, name).kernel.shape
        drawn = rng.normal(scale=inputs**-0.5, size=(inputs, rank)).astype(np.float32)
        params[place] = {"A": drawn, "B": np.zeros((rank, outputs), np.float32)}
    return params


def freeze(server: Server, config: ConfigDict) -> Tuned:
    return tuned(server, config, config.lora.alpha / config.lora.rank)


def found(params: Params, tower: nnx.Module) -> dict[str, tuple[nnx.Module, str]]:
    """`projections` of the params."""
    return projections(tower, tuple(dict.fromkeys(place.split(".")[1] for place in params)))


def logits(params: Params, frozen: Tuned, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    model = frozen.towers.model()
    for place, (part, name) in found(params, model.vision_model).items():
        setattr(part, name, changed(getattr(part, name), params[place], frozen.scale))
    return image_logits(model, frozen, rows)


def changed(base: nnx.Linear, change: dict[str, jax.Array], scale: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """x -> x W + scale (x A) B, with W's bias."""

    def apply(x: jax.Array) -> jax.Array:
        y = base(x)
        return y + (scale * (x @ change["A"]) @ change["B"]).astype(y.dtype)

    return apply


def artefact(params: Params, frozen: Tuned) -> tuple[dict[str, Any], dict[str, Any]]:
    """The changed projections' weights, merged, under the names of Hugging Face's checkpoints."""
    tower, merged = frozen.towers.model().vision_model, {}
    for place, (part, name) in found(params, tower).items():
        number, change = place.split(".")[0], params[place]
        kernel = np.asarray(getattr(part, name).kernel[...], np.float32)
        new = kernel + np.float32(frozen.scale) * (np.asarray(change["A"]) @ np.asarray(change["B"]))
        merged.setdefault(number, {}).setdefault(PLACES[name], {})[name] = {"kernel": new}
    return stored_tensors({"vision_model": {"encoder": {"layers": merged}}}), {}


lora = Method(
    label="LoRA",
    init=init,
    logits=logits,
    freeze=freeze,
    inputs=("images",),
    search=(
        Choice("local.learning_rate", (1e-4, 1e-3, 1e-2)),
        Choice("lora.rank", (2, 4, 8)),
        Choice("lora.projections", (("q_proj", "v_proj"), tuple(PLACES))),
    ),
    fields=FIELDS,
    artefact=artefact,
    explanation="low-rank changes of the image tower, tuned at the clients, averaged by the server",
    untrained="CLIP before LoRA",
    privacy="A client sends the low-rank matrices and no image. Their change is made of the gradients of the "
    "projections, which are sums of products of what goes into a block and what comes back to it; how much of an image "
    "they tell is less than whole gradients do and was not measured here.",
)
