"""What this machine is seen to do: the run's encoder timed on its images, memory from shapes and XLA."""

import pathlib

import jax
import numpy as np
import pytest

from cachefl_jax.clip import find_checkpoint
from cachefl_jax.poc import work
from cachefl_jax.simulation import clock
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.finished import Finished
from cachefl_jax.simulation.prepare import prepare

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def finished(make_pictures, config_for_images, tmp_path_factory) -> Finished:
    """A run on 30 pictures of two classes."""
    root = make_pictures(tmp_path_factory.mktemp("pictures"), {"green disc": 15, "red square": 15})
    config = config_for_images(root)
    inputs = prepare(config)
    return Finished(config, inputs, build(config, inputs, ordered=True))


def test_encoding_is_timed_and_its_memory_is_more_than_the_weights(finished, monkeypatch):
    ticks = iter((10.0, 12.0))
    monkeypatch.setattr(work.time, "perf_counter", lambda: next(ticks))
    here = work.measured(finished)
    assert here.encoding == len(finished.inputs.bank.train.labels) / 2
    weights = (pathlib.Path(find_checkpoint("pocket")) / "model.safetensors").stat().st_size
    assert here.encoding_bytes > 0.3 * weights  # one tower of two, and a batch


def test_memory_for_training_is_three_times_the_keys_and_what_goes_with_them(finished):
    here = work.measured(finished)
    bank, keys = finished.inputs.bank, finished.learner.params
    size = sum(leaf.nbytes for leaf in map(np.asarray, jax.tree.leaves(keys)))
    rows = finished.inputs.partition.sizes.max() * 4 * bank.width
    assert here.training_bytes == clock.site_memory(finished.learner).max()
    assert here.training_bytes >= 3 * size + rows


def test_a_bank_has_no_encoder_to_time(finished):
    here = work.measured(finished._replace(inputs=finished.inputs._replace(source=None)))
    assert here[:2] == (None, None)
    assert here.training_bytes


def test_a_site_is_the_largest_and_its_rounds_are_the_rows():
    row = {"rounds": 20, "client_flops_per_round": 5e8, "seconds_per_round": 0.4}
    assert work.site_of(row, {"image_forward_flops": 2e9}, np.array([3, 600]), 5) == work.Site(
        600, 2e9, 20, 5e8, 0.4, 5
    )
    assert work.site_of({"rounds": None}, None, [7], 5) == work.Site(7, None, 1, None, None, 5)
