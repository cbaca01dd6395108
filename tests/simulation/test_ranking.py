"""A sweep's ranking: by validation accuracy alone, and only among points that are alternatives."""

from cachefl_jax.commands.sweep import configs
from cachefl_jax.config import resolve
from cachefl_jax.simulation.ranking import ranking
from experiments.configs.digits import get_config


def ranked(*points: tuple[dict, float | None]) -> list[str]:
    """The ranking's lines of points with these overrides and validation accuracies; test accuracy says the opposite."""
    results = [
        {
            "point": number, "overrides": overrides, "diverged": score is None,
            "methods": {"cachefl": {"validation_accuracy": score, "test_accuracy": 1 - (score or 0)}},
        }
        for number, (overrides, score) in enumerate(points)
    ]  # fmt: skip
    return ranking(results, list(configs(get_config(), [overrides for overrides, _ in points]))).splitlines()


def test_points_are_ranked_by_the_mean_over_seeds_of_validation_accuracy():
    scores = {(1.0, 0): 0.9, (1.0, 1): 0.7, (5.0, 0): 0.84, (5.0, 1): 0.82}
    lines = ranked(*(({"cache.alpha": alpha, "seed": seed}, score) for (alpha, seed), score in scores.items()))
    assert [line.split() for line in lines] == [
        ["validation", "runs", "point"],
        ["0.8300", "2", "cache.alpha=5.0"],
        ["0.8000", "2", "cache.alpha=1.0"],
    ]


def test_points_of_different_data_or_partitions_or_cohorts_are_not_ranked_against_each_other():
    easy, hard = {"partition.concentration": 100.0}, {"partition.concentration": 0.05}
    lines = ranked(
        ({**easy, "cache.alpha": 1.0}, 0.9), ({**easy, "cache.alpha": 5.0}, 0.8),
        ({**hard, "cache.alpha": 1.0}, 0.4), ({**hard, "cache.alpha": 5.0}, 0.5),
    )  # fmt: skip
    assert [line.strip() for line in lines] == [
        "partition.concentration=100.0", "validation  runs  point",
        "0.9000     1  cache.alpha=1.0", "0.8000     1  cache.alpha=5.0", "",
        "partition.concentration=0.05", "validation  runs  point",
        "0.5000     1  cache.alpha=5.0", "0.4000     1  cache.alpha=1.0",
    ]  # fmt: skip
    attacks = {"hostile.kind": "sign_flip"}, {"hostile.kind": "scaled"}
    for one, other in (({"cohort": 5}, {"cohort": 10}), ({"data.shots": 4}, {"data.shots": 8}), attacks):
        assert sum("validation" in line for line in ranked((one, 0.5), (other, 0.6))) == 2


def test_a_field_that_a_point_leaves_out_has_the_configs_value():
    same = resolve(get_config()).cache.alpha
    lines = ranked(({"cache.alpha": same, "seed": 0}, 0.6), ({"seed": 1}, 0.8), ({"rounds": 7}, 0.1))
    assert lines[1].split()[:2] == ["0.7000", "2"]
    assert "rounds=7" in lines[2]


def test_fields_that_change_nothing_that_is_learnt_tell_no_points_apart():
    lines = ranked(({"engine.devices": 1}, 0.6), ({"engine.devices": 2, "eval_every": 3}, 0.8))
    assert [line.split()[:2] for line in lines[1:]] == [["0.7000", "2"]]


def test_a_point_that_diverged_is_told_and_no_score_at_all_is_nothing_to_rank_by():
    lines = ranked(({"local.learning_rate": 1.0}, None), ({"local.learning_rate": 0.1}, 0.5))
    assert [line.split()[0] for line in lines] == ["validation", "0.5000", "diverged"]
    assert "nothing to rank by" in ranking([], [])


def test_a_field_that_has_one_value_in_all_points_is_not_told():
    points = [({"rounds": 7, "data.shots": 4, "cache.alpha": alpha}, alpha / 10) for alpha in (1.0, 5.0)]
    assert [line.split() for line in ranked(*points)[1:]] == [
        ["0.5000", "1", "cache.alpha=5.0"],
        ["0.1000", "1", "cache.alpha=1.0"],
    ]
    assert "rounds" not in "".join(ranked(*points))


def test_a_field_that_does_nothing_in_a_point_is_not_told_of_it():
    rules = ({"aggregation.name": "krum", "aggregation.hostile": 0.3}, 0.5), ({"aggregation.name": "median"}, 0.6)
    assert [line.split() for line in ranked(*rules)[1:]] == [
        ["0.6000", "1", "aggregation.name=median"],
        ["0.5000", "1", "aggregation.name=krum,", "aggregation.hostile=0.3"],
    ]


MINE = """
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import finite
from cachefl_jax.federation.transforms import stateless
flip = stateless(lambda update, sender: update, fields=(Field("flip.scale", 2.0, "how far", *finite(), "x"),))
"""


def test_a_field_that_only_some_points_have_tells_these_apart(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    flip = {"updates.transforms": (f"{tmp_path}/mine.py:flip",)}
    lines = ranked(({**flip, "flip.scale": 1.0}, 0.6), ({**flip, "flip.scale": 3.0}, 0.7), ({"rounds": 7}, 0.5))
    assert [line.split()[0] for line in lines[1:]] == ["0.7000", "0.6000", "0.5000"]
    assert ["flip.scale=3.0" in line for line in lines] == [False, True, False, False]
    assert "flip" not in lines[3]
