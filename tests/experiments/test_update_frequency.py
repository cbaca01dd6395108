"""The comparison of local epochs at equal virtual time, on lines that a sweep would leave."""

import json

import numpy as np

from experiments.benchmarks.update_frequency import curves, draw, table


def line(point: int, epochs: int, hours: list[float], accuracies: list[float]) -> dict:
    curve = {"round": [2 * (at + 1) for at in range(len(hours))], "hours": hours, "test": accuracies}
    entry = {"test_accuracy": accuracies[-1], "validation_accuracy": 0.5, "total_bytes": 4000}
    changes = {"participation.profiles": "phone", "local.epochs": epochs, "rounds": 2 * len(hours)}
    return {"point": point, "method": "cachefl", "methods": {"cachefl": entry}, "overrides": changes, "curve": curve}


def test_settings_are_compared_where_equal_time_has_passed(tmp_path):
    """One epoch a round needs 4 hours, four need 2: by then the former has done 4 rounds of 8, at 0.6; by a quarter of
    that time neither was scored or the first once."""
    lines = [
        line(0, 1, [0.5, 2.0, 3.0, 4.0], [0.5, 0.6, 0.7, 0.8]),
        line(1, 4, [1.0, 2.0], [0.65, 0.75]),
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    found = curves(tmp_path)
    np.testing.assert_allclose(found["phone"][4], [[2, 4], [3600, 7200], [2000, 4000], [0.65, 0.75]])
    assert table(found) == [
        "| phone | 1 | 1,800 s | 50.0% (2) | 50.0% (2) | 60.0% (4) |",
        "| phone | 4 | 1,800 s | - | 65.0% (2) | 75.0% (4) |",
        "| phone | | virtual time | 1,800 s | 3,600 s | 7,200 s |",
    ]
    draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
