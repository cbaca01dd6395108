"""What several methods on frozen features start from."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.methods.method import Choice, Server

OPTIMIZERS = Choice("local.optimizer", ("sgd", "adamw"))


def rates(*values: float) -> tuple[Choice, Choice]:
    """The search of a method that has nothing but its rate to choose: SGD or AdamW at one of these."""
    return OPTIMIZERS, Choice("local.learning_rate", values)


def class_means(server: Server) -> np.ndarray:
    """The mean feature of the server's images of each class, L2-normalised, [N, D]."""
    means = server.synthetic.mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def need_text(server: Server, method: str) -> None:
    """Refuses a method that is built on text features where there are none.

    Raises UsageError: the bank brings no text features."""
    if not server.text.any():
        allowed = "a method that does without text features, which the bank has not"
        raise UsageError("method", method, allowed, "add text_features to the bank, or take linear_probe")


def normalised(vectors: jax.Array) -> jax.Array:
    """Each row brought to length 1, [..., D]."""
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def dense(config: ConfigDict, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Weights as a dense layer of PyTorch starts with: uniform within 1 / sqrt(inputs), by the run's seed.

    Args:
        config: its seed is read.
        shapes: of each array; its last axis is the layer's inputs, [outputs, inputs] or [inputs] for a bias, which
            must be as wide as the layer's inputs."""
    rng = np.random.default_rng(config.seed)
    return [rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(shape[-1])) for shape in shapes]
