"""Zero-shot CLIP: nothing is trained, nothing travels. Radford et al., arXiv 2103.00020, section 3.1."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.methods.method import Method, Restored, Rows, Server, Text, nothing, text_logits, text_of


def freeze(server: Server, config: ConfigDict) -> Text:
    del config
    return text_of(server)


def logits(params: tuple[()], frozen: Text, rows: Rows) -> jax.Array:
    """s f[b] . text[n], [B, N]."""
    del params
    return text_logits(frozen, rows)


def restore(arrays: dict[str, Any], told: dict[str, Any]) -> Restored:
    """A model that is class weights in a file, whatever they were made of."""
    return Restored(logits, (), Text(arrays["text"], np.float32(told["logit_scale"])))


zero_shot = Method(
    label="zero-shot CLIP", init=nothing, logits=logits, freeze=freeze, explanation="class names only, nothing trained"
)
