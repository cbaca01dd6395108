"""A run on small pictures by the pocket CLIP, whose files the tests of deployed models read."""

import pytest

from cachefl_jax.config import METHOD_NAMES
from cachefl_jax.simulation.train import train_and_evaluate

NAMES = ("blue bar", "green disc", "red square")
METHODS = ("cachefl", "ridge", "linear_probe")


@pytest.fixture(scope="session")
def pictured(make_pictures, config_for_images, tmp_path_factory):
    """(the run's folder, that of its images): a cache, a closed form and a head, tuned for two rounds."""
    root = make_pictures(tmp_path_factory.mktemp("pictures"), dict.fromkeys(NAMES, 16))
    workdir = tmp_path_factory.mktemp("runs") / "run"
    # A cache so blunt that tuning is seen in its answers, and rows that are not all told apart.
    fields = {"methods": METHOD_NAMES, "compare": METHODS, "local.learning_rate": 0.01, "cache.alpha": 3.0}
    train_and_evaluate(config_for_images(root, **fields), workdir)
    return workdir, root


@pytest.fixture(scope="session")
def started(quick_start):
    """(a command's name, its words) -> the finished process."""
    return lambda name, *words: quick_start(*map(str, words), command=name)
