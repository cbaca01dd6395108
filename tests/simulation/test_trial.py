"""Components that raise or do not fit are refused in one line, with the user's own line, before anything is written."""

import pytest

from cachefl_jax import simulate
from cachefl_jax.config import changed, default
from cachefl_jax.errors import UsageError

pytestmark = pytest.mark.quick

CODE = """
import jax.numpy as jnp, numpy as np
from cachefl_jax.federation import Cohort, Participation, collect, scaling
from cachefl_jax.methods import Method
init, none = (lambda server, config: server.text), (lambda server, config: ())
def method(logits, init=init): return Method("mine", init, logits, freeze=none)
def typo(weights, frozen, rows):
    return rows.featurs @ weights.T
short = method(lambda w, f, rows: (rows.features @ w.T)[:, :3])
summed = method(lambda w, f, rows: (rows.features @ w.T).sum(1))
mistyped = method(typo)
whole = method(lambda w, f, rows: rows.features @ w.T, init=lambda s, c: np.zeros((4, 8), int))
sound = method(lambda w, f, rows: rows.features @ w.T, init=lambda s, c: np.zeros((4, 8)))
no_server = method(lambda w, f, rows: rows.features @ w.T, init=lambda server, c: server.nothing)
stacked = collect(lambda updates, received: updates)
vector = scaling(lambda norm, sender: jnp.ones(3))
no_field = scaling(lambda norm, sender: 1.0, hyper=lambda config: config.none.such)
def people(numbers, places):
    return Participation(lambda key, c, s: Cohort(numbers(c), places(c)), lambda c, s: places(c))
beyond = people(lambda c: jnp.arange(c) + 100, lambda c: c)
twice = people(lambda c: jnp.zeros(c, int), lambda c: c)
many = people(lambda c: jnp.arange(c + 5), lambda c: c + 5)
few = people(lambda c: jnp.arange(2), lambda c: c)
nobody = people(lambda c: jnp.arange(0), lambda c: 0)
array = Participation(lambda key, c, s: jnp.arange(c), lambda c, s: c)
"""


@pytest.fixture
def run(make_bank, tmp_path):
    """(field, name) -> the run of the digits' kind with that component; the folder that it would write to."""
    (tmp_path / "mine.py").write_text(CODE)
    bank = make_bank()

    def start(field: str, name: str, several: bool = False):
        named = f"{tmp_path / 'mine.py'}:{name}"
        fields = {"data.name": "feature_bank", "data.path": str(bank), "rounds": 1, "compare": ("zero_shot",),
                  "partition.clients": 3, "cache.keys_per_class": 2, "engine.devices": 1,
                  field: (named,) if several else named}  # fmt: skip
        return simulate(changed(default(), fields), tmp_path / "run")

    return start, tmp_path / "run"


@pytest.mark.parametrize(
    ("field", "name", "told"),
    [
        ("method", "short", r"shape \(\d+, 3\); allowed: \[rows, classes\]"),
        ("method", "summed", r"shape \(\d+,\)"),
        ("method", "mistyped", r"AttributeError: .*featurs.*mine.py line 8"),
        ("method", "whole", "params are int32"),
        ("method", "no_server", r"AttributeError: .*nothing.*mine.py line \d+"),
        ("aggregation.name", "stacked", r"shapes|broadcast"),
        ("updates.transforms", "vector", "broadcast"),
        ("updates.transforms", "no_field", "none.*mine.py line"),
        ("participation.name", "beyond", r"draws \[100, 101, 102\]"),
        ("participation.name", "twice", r"draws \[0, 0, 0\]"),
        ("participation.name", "many", "gives 8 places"),
        ("participation.name", "few", "gives 3 places"),
        ("participation.name", "nobody", "gives 0 places"),
        ("participation.name", "array", "no Cohort"),
    ],
)
def test_a_component_that_does_not_fit_is_told_in_one_line_and_writes_nothing(run, field, name, told):
    start, folder = run
    with pytest.raises(UsageError, match=told) as refusal:
        start(field, name, several=field == "updates.transforms")
    assert str(refusal.value).startswith(f"{field}: got ")
    assert "\n" not in str(refusal.value)
    assert not folder.exists()


def test_params_of_numpys_own_floats_are_taken(run):
    start, folder = run
    start("method", "sound")
    assert (folder / "summary.json").is_file()
