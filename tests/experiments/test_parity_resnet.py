"""The comparison with open_clip: what its figures mean, and who cannot be compared with."""

import sys

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from experiments.benchmarks.parity_resnet import compare, row


def test_a_row_tells_the_worst_of_all_features():
    theirs = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    same = row("RN50", "image", theirs, theirs)
    assert same.cosine == pytest.approx(1, abs=1e-12)
    assert same.difference == 0
    assert same.spread == pytest.approx(0.8)
    assert same.holds
    turned = row("RN50", "image", np.array([[3.0, 4.0], [2.0, 0.0]], np.float32), theirs)
    assert turned.cosine == pytest.approx(0, abs=1e-12)
    assert turned.difference == pytest.approx(1)
    assert not turned.holds
    longer = row("RN50", "image", 1.001 * theirs, theirs)
    assert longer.cosine == pytest.approx(1, abs=1e-6)
    assert not longer.holds, "the length counts too"


@pytest.mark.parametrize("peer", ["/no/such/python", sys.executable], ids=["no interpreter", "no open_clip"])
def test_a_peer_that_cannot_run_is_one_line(peer, monkeypatch, tmp_path):
    (tmp_path / "open_clip.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match="--peer: got .*python") as caught:
        compare("RN50", peer)
    assert "\n" not in str(caught.value)
