"""What a sweep's points share is made once, and a group that does not fit is refused before anything runs."""

import gc
import json
import operator
import weakref

import numpy as np
import pytest

from cachefl_jax.commands.sweep import configs
from cachefl_jax.config import FIELDS, changed, lookup
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import examples, sweep_groups, sweep_points
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points, run_points
from experiments.configs import feature_bank

pytestmark = pytest.mark.quick
OVERRIDES = [
    {"cache.alpha": alpha, "seed": seed, "rounds": 1} for alpha in (1.0, 3.0) for seed in (0, 1)
]  # two partitions


@pytest.fixture
def points(make_bank):
    base = feature_bank.get_config()
    base.data.path, base.partition.clients = str(make_bank()), 4
    return list(configs(base, OVERRIDES))


def test_points_share_text_logits_test_rows_and_compiled_accuracies(points, monkeypatch):
    made, real = [], examples.text_logits_of
    monkeypatch.setattr(examples, "text_logits_of", lambda *arrays: made.append(1) or real(*arrays))
    first, *others = (point.learner for point in prepared_points(points, range(len(points))))
    assert len(made) == 1
    for learner in others:
        assert all(map(operator.is_, learner.problem.data, first.problem.data))
        assert learner.problem.frozen.text is first.problem.frozen.text
        for score, other in ((learner.score, first.score), (learner.zero_shot, first.zero_shot)):
            assert score.test.features is other.test.features
            assert score.scores is other.scores
        assert learner.params.keys is first.params.keys
    alphas = [float(learner.problem.frozen.alpha) for learner in (first, *others)]
    assert alphas == [1.0, 1.0, 3.0, 3.0]


def test_another_value_of_a_traced_field_makes_no_other_group(make_bank):
    base = feature_bank.get_config()
    base.data.path, base.partition.clients = str(make_bank()), 4
    base = changed(base, {
        "local.optimizer": "sgd", "local.momentum": 0.5, "local.proximal": 0.1, "local.clip_norm": 1.0,
        "server.optimizer": "yogi", "updates.transforms": ("clip", "noise"), "aggregation.name": "trimmed_mean",
        "privacy.quantile": 0.5,
    })  # fmt: skip
    traced = [field.name for field in FIELDS if field.traced]
    assert len(traced) > 10
    other = [{name: 0.25 + 0.5 * abs(lookup(base, name))} for name in traced if name != "aggregation.trim"]
    every = list(configs(base, [{}, {"aggregation.trim": 0.3}, *other]))
    assert len({group_of(point) for point in prepared_points(every, range(len(every)))}) == 1


MINE = """
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import at_least, finite
from cachefl_jax.federation.transforms import stateless
scale = Field("flip.scale", 2.0, "how far", *finite(), "x", traced=True)
times = Field("flip.times", 1, "how often", *at_least(1), "x")
flip = stateless(lambda update, sender: update, fields=(scale, times), hyper=lambda config: config.flip.scale)
"""


def test_another_value_of_a_users_field_that_is_not_traced_makes_another_group(points, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    base = changed(points[0], {"updates.transforms": (f"{tmp_path}/mine.py:flip",)})
    every = list(configs(base, [{}, {"flip.scale": 3.0}, {"flip.times": 2}]))
    first, second, third = map(group_of, prepared_points(every, range(3)))
    assert first == second != third


def test_only_what_is_equal_is_shared():
    shared, ones = Shared(), np.ones(3, np.float32)
    assert shared.array(ones) is ones
    assert shared.array(np.ones(3, np.float32)) is ones
    for other in (np.ones(4, np.float32), np.ones(3, np.float64), np.zeros(3, np.float32)):
        assert shared.array(other) is other
    calls = []
    add = lambda array, number: calls.append(number) or array + number  # noqa: E731
    assert shared.once(add, ones, 1) is shared.once(add, ones, 1)
    assert shared.once(add, ones, 2)[0] == 3
    assert shared.once(add, np.ones(3, np.float32), 1)[0] == 2  # another array, which the same name may not stand for
    assert calls == [1, 2, 1]


@pytest.mark.parametrize(("side_by_side", "field"), [(False, "engine.devices"), (True, "--side_by_side")])
def test_a_group_that_does_not_fit_is_refused_before_anything_is_written(
    points, tmp_path, monkeypatch, side_by_side, field
):
    monkeypatch.setattr(sweep_groups, "free", lambda: 4000)
    with pytest.raises(UsageError, match=rf"{field}: got 2 points at a time on 2 devices, which need .*KiB.* free"):
        run_points(points, OVERRIDES, tmp_path / "sweep", [], side_by_side)
    assert not any(file.name == "sweep.json" for file in tmp_path.rglob("*"))


def test_groups_that_fit_run_beside_one_that_does_not_and_each_lets_go_of_its_program(make_bank, tmp_path, monkeypatch):
    base = feature_bank.get_config()
    base.data.path, base.partition.clients, base.rounds = str(make_bank()), 4, 1
    changes = [{"local.epochs": count} for count in (4, 3, 2, 1)]
    real, programs, lines = sweep_points.make_group, [], []

    def make(kind, alike, way):
        if alike[0].config.local.epochs == 4:
            raise UsageError("engine.devices", 1, "less", "fewer keys")
        gc.collect()
        lines.append(len(results.read_text().splitlines()) if results.is_file() else 0)
        assert all(program() is None for program in programs[:-1]), "all are kept: a hundred are too many maps"
        group = real(kind, alike, way)
        programs.append(weakref.ref(group.run))
        return group

    monkeypatch.setattr(sweep_points, "make_group", make)
    results = tmp_path / "sweep" / "results.jsonl"
    with pytest.raises(UsageError, match="fewer keys"):
        run_points(list(configs(base, changes)), changes, tmp_path / "sweep", [], False)
    assert [json.loads(line)["overrides"] for line in results.read_text().splitlines()] == changes[1:]
    assert lines == [0, 1, 2], "what is done is written before the next program is compiled"
