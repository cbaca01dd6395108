"""Fashion-MNIST from its IDX files (Xiao et al., arXiv 1708.07747), all offline: Debian's package has them.

    apt-get install dataset-fashion-mnist
    python -m experiments.run --config=experiments/configs/fashion_mnist.py --workdir=runs/fashion_mnist

The embedded CLIP has seen handwriting and type, never clothes: its zero-shot accuracy is near chance, and all that is
right comes from the keys. The server's keys are real images set apart from training; no generator is at work.
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default


def get_config() -> ConfigDict:
    config = default()
    config.data.name = "fashion_mnist"
    config.data.path = "/usr/share/datasets/fashion-mnist"
    config.synthesis.source = "held_out"
    config.cache.alpha, config.cache.beta = 100.0, 1.0
    config.rounds, config.eval_every = 50, 5
    return config


def sweep(add) -> None:
    """The grid that alpha, beta and learning rate were chosen from, by validation accuracy."""
    for alpha in (50.0, 100.0, 200.0, 400.0):
        for beta in (0.1, 0.25, 1.0):
            for learning_rate in (1e-3, 3e-3, 1e-2):
                fields = {"cache.alpha": alpha, "cache.beta": beta, "local.learning_rate": learning_rate}
                add(**fields, eval_every=50, methods=("cachefl",))
