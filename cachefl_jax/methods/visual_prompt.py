"""Visual prompts: trained tokens at the input of a vision transformer's blocks. Jia et al., VPT, arXiv 2203.12119.

    shallow, eq. 4-5:  [x_1, Z_1, E_1] = L_1([x_0, P, E_0]);  [x_i, Z_i, E_i] = L_i([x_i-1, Z_i-1, E_i-1])
    deep, eq. 7:       [x_i, _, E_i] = L_i([x_i-1, P_i-1, E_i-1])
    z[b,n] = s unit(I(x[b])) . text[n]      logits; s and the class weights are CLIP's own

x is the class token, E the patches' tokens, positions added; prompts have no position, so that where they stand among
the tokens is of no account. CLIP's first layer norm belongs to the embeddings: prompts come after it. What comes out at
the prompts' places is left away. Prompts start as in the paper's code, uniform to +- sqrt(6 / (3 patch^2 + width)).

Axis letters: B batch, N classes, T tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import SWITCH, at_least
from cachefl_jax.methods.method import Choice, Method, Rows, Server
from cachefl_jax.methods.towers import AT_ONCE, Tuned, image_logits, transformer, tuned

# fmt: off
FIELDS = (
    Field("visual_prompt.tokens", 8, "prompt tokens at a block's input", *at_least(1), "raise it to 1 or more"),
    Field("visual_prompt.deep", False, "whether every block has prompts of its own; else the first",
          *SWITCH, "choose one of these"),
    AT_ONCE,
)
# fmt: on


def init(server: Server, config: ConfigDict) -> dict[str, np.ndarray]:
    """The prompts of each block that has some, [blocks, tokens, width], drawn by the run's seed."""
    tower = transformer(server, "visual_prompt")
    patch = tower.embeddings.patch_embedding.kernel  # [side, side, 3, width]
    most = np.sqrt(6 / (np.prod(patch.shape[:3]) + patch.shape[3]))
    blocks = len(tower.encoder.layers) if config.visual_prompt.deep else 1
    shape = (blocks, config.visual_prompt.tokens, patch.shape[3])
    return {"prompts": np.random.default_rng(config.seed).uniform(-most, most, shape).astype(np.float32)}


def freeze(server: Server, config: ConfigDict) -> Tuned:
    return tuned(server, config)


def logits(params: dict[str, jax.Array], frozen: Tuned, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    model = frozen.towers.model()
    blocks = list(model.vision_model.encoder.layers)

    def prompted(tokens: jax.Array) -> jax.Array:
        """All blocks on the image's own tokens [B, T, width] and the prompts."""
        batch, count = tokens.shape[:2]
        for number, block in enumerate(blocks):
            if number < len(params["prompts"]):
                prompts = jnp.broadcast_to(params["prompts"][number], (batch, *params["prompts"].shape[1:]))
                tokens = jnp.concatenate([tokens[:, :count], prompts], axis=1)
            tokens = block(tokens)
        return tokens[:, :count]

    model.vision_model.encoder = prompted
    return image_logits(model, frozen, rows)


visual_prompt = Method(
    label="visual prompts",
    init=init,
    logits=logits,
    freeze=freeze,
    inputs=("images",),
    search=(
        Choice("local.learning_rate", (1e-3, 1e-2, 1e-1)),
        Choice("visual_prompt.deep", (False, True)),
    ),
    fields=FIELDS,
    explanation="prompt tokens of the image tower, tuned at the clients, averaged by the server",
    untrained="random visual prompts",
    privacy="A client sends the tuned prompt tokens and no image. Their change is what came back through the tower to "
    "tokens that no image made; how much of an image it tells was not measured here.",
)
