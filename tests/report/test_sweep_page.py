"""The page of a sweep's folder: ranked by validation accuracy, within a setting, and true of what is done."""

import json

import pytest

from cachefl_jax.config import default
from cachefl_jax.config.as_json import resolved
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.sweep_report import write_sweep


def line(point: int, overrides: dict, validation: float | None, test: float | None = 0.5, **more) -> dict:
    methods = {"cachefl": {"validation_accuracy": validation, "test_accuracy": test, **more.pop("figures", {})}}
    return {"point": point, "overrides": overrides, "methods": methods, "command": f"python <{point}>", **more}


def swept(folder, lines: list[dict], points: int | None = None):
    """A sweep's folder: its configs made of the lines' overrides."""
    configs = []
    for row in [*lines, *[{"overrides": {}}] * ((points or len(lines)) - len(lines))]:
        config = default()
        config.update_from_flattened_dict(row["overrides"])
        configs.append(resolved(config))
    (folder / "sweep.json").write_text(json.dumps(configs))
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return folder


def text_of(folder) -> str:
    path = write_sweep(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_points_are_ranked_by_validation_accuracy_over_their_seeds(tmp_path):
    rates = [(0.1, 0, 0.7, 0.9), (0.1, 1, 0.8, 0.9), (0.2, 0, 0.9, 0.1), (0.2, 1, 0.8, 0.1)]
    lines = [
        line(point, {"local.learning_rate": rate, "seed": seed}, validation, test)
        for point, (rate, seed, validation, test) in enumerate(rates)
    ]
    text = text_of(swept(tmp_path, lines))
    assert "Best of 2 by validation accuracy: local.learning_rate=0.2, with 85.0%." in text
    assert text.index('<th scope="row">local.learning_rate=0.2') < text.index('<th scope="row">local.learning_rate=0.1')
    assert "<small>80.0 to 90.0</small>" in text
    for said in ("Test accuracy is told, and ranks nothing", "differ in their seed", "python &lt;3&gt;"):
        assert said in text
    for unsaid in ("no alternatives", "are done", "diverged"):
        assert unsaid not in text


def test_the_worst_tenth_of_the_clients_is_the_mean_over_seeds_where_all_have_it(tmp_path):
    figures = [{"clients": {"mean": 0.9, "worst_tenth": worst, "std": 0.1}} for worst in (0.304, 0.502)]
    lines = [line(seed, {"seed": seed}, 0.9, figures=own) for seed, own in enumerate(figures)]
    assert "<td>40.3%</td>" in text_of(swept(tmp_path, lines))
    assert "<td>-</td>" in text_of(swept(tmp_path, [*lines, line(2, {"seed": 2}, 0.9)]))


def test_settings_are_not_ranked_against_each_other(tmp_path):
    lines = [line(0, {"partition.concentration": 5.0}, 0.9), line(1, {"partition.concentration": 0.1}, 0.4)]
    text = text_of(swept(tmp_path, lines))
    assert "A sweep of 2 points in 2 settings, each ranked by validation accuracy." in text
    assert "are no alternatives" in text
    assert "Best of" not in text
    assert "differ in their seed" not in text


def test_what_is_not_done_or_not_measured_is_told(tmp_path):
    diverged = line(0, {"cache.alpha": 1e30}, None, None, diverged=True)
    text = text_of(swept(tmp_path, [diverged], points=3))
    assert "none has a validation accuracy, so nothing ranks them" in text
    assert "1 of 3 points are done" in text
    assert "<small>diverged</small>" in text
    assert "ranks nothing" not in text
    assert "ranked by validation accuracy alone" not in text
    (tmp_path / "results.jsonl").unlink()
    assert "A sweep of 3 points: none is done yet." in text_of(tmp_path)


def test_a_point_that_has_nothing_right_is_ranked_before_those_without_an_accuracy(tmp_path):
    lines = [line(0, {"cache.beta": 1.0}, None), line(1, {"cache.beta": 2.0}, 0.0)]
    text = text_of(swept(tmp_path, lines))
    assert text.index('<th scope="row">cache.beta=2.0') < text.index('<th scope="row">cache.beta=1.0')


def test_equal_points_share_the_headline(tmp_path):
    lines = [line(0, {"cache.beta": 1.0}, 0.9), line(1, {"cache.beta": 2.0}, 0.9), line(2, {"cache.beta": 3.0}, 0.1)]
    assert "cache.beta=1.0, with 90.0%; cache.beta=2.0 is equal." in text_of(swept(tmp_path, lines))


def test_names_are_text(tmp_path):
    paths = ("<script>x</script>\ud800", "b")
    folders = [{"data.name": "image_folder", "data.path": path} for path in paths]
    lines = [line(number, folder, 0.9) for number, folder in enumerate(folders)]
    text = text_of(swept(tmp_path, lines))
    assert "<script" not in text
    assert "&lt;script&gt;x&lt;/script&gt;\\ud800" in text


def test_damage_is_one_line(tmp_path):
    swept(tmp_path, [line(0, {"cache.beta": 1.0}, 0.9), line(1, {"cache.beta": 2.0}, 0.8)])
    whole = (tmp_path / "results.jsonl").read_text()
    for old, new, match in (
        ('"point": 1', '"point": "one"', r"results\.jsonl, line 2: got point = 'one'"),
        (
            '"validation_accuracy": 0.8',
            '"validation_accuracy": "high"',
            r"line 2: got methods\.cachefl",
        ),
        ('{"cache.beta": 2.0}', '{"cache.gamma": 2.0}', r"sweep: overrides: got cache\.beta, cache\.gamma"),
    ):
        (tmp_path / "results.jsonl").write_text(whole.replace(old, new))
        with pytest.raises(UsageError, match=match):
            write_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(UsageError, match=r"sweep\.json: got list"):
        write_sweep(tmp_path)
