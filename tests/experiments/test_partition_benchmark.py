"""The benchmark of the schemes deals every one of them."""

from cachefl_jax.config.partition import FOUND, SCHEMES
from experiments.benchmarks import partitions


def test_every_scheme_is_timed(tmp_path):
    lines = partitions.measure(2000, 1000, 10, tmp_path)
    assert {name.split()[0] for name, *_ in lines} == {*SCHEMES, *FOUND}
    assert all(0 < seconds < 5 and 0 < card < 5 for _, seconds, card, _ in lines)
    assert {name for name, _, _, repairs in lines if repairs == 0} >= {"iid", "dirichlet clients", "natural", "given"}
