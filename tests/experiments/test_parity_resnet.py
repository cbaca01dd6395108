"""The comparison with open_clip: who cannot be compared with."""

import sys

import pytest

from cachefl_jax.errors import UsageError
from experiments.benchmarks.parity_resnet import compare


@pytest.mark.parametrize("peer", ["/no/such/python", sys.executable], ids=["no interpreter", "no open_clip"])
def test_a_peer_that_cannot_run_is_one_line(peer, monkeypatch, tmp_path):
    (tmp_path / "open_clip.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match="--peer: got .*python") as caught:
        compare("RN50", peer)
    assert "\n" not in str(caught.value)
