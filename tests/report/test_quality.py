"""What the page tells of classes, clients and pace: only what the run's files say."""

import json

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.report import clock, drift, quality, write_report
from cachefl_jax.storage.run_files import read_summary

FIGURES = {
    "test_balanced_accuracy": 0.873, "test_ece": 0.0312, "test_cross_entropy": 0.4567,
    "test_class_accuracy": [0.91, 0.62, None], "clients": {"mean": 0.888, "worst_tenth": 0.501, "std": 0.123},
    "rounds_to": {"90": 2, "95": 3, "99": None},
}  # fmt: skip
SECTION = "For which classes and which clients"


def test_the_figures_of_a_run_are_on_its_page(make_run, text_of):
    text = text_of(make_run(methods={"cachefl": FIGURES}))
    row = text.split(SECTION)[1].split("centralized")[0]
    assert "CacheFL tuned at the clients, averaged by the server 87.3% 88.8% 50.1% 12.3% 3.1% 0.457" in row
    assert "Of the gain in test accuracy over round 0, CacheFL had 90% by round 2, 95% by round 3." in text
    assert "weighted by the client's own shares of the classes" in text
    assert "Accuracy on each class Filled: CacheFL. The lowest come first." in text


def test_dealt_rows_are_told_as_such(make_run, text_of):
    text = text_of(make_run(methods={"cachefl": FIGURES}, evaluation={"client_rows": "dealt"}))
    assert "that on the client's own test rows, which are dealt by its shares of each class" in text


def test_a_run_that_has_none_of_them_has_no_section(make_run, text_of):
    assert SECTION not in text_of(make_run())
    assert quality.section(make_run())["classes"] is None


def test_runs_side_by_side_share_one_table(make_run, text_of):
    text = text_of(make_run(methods={"cachefl": FIGURES}), make_run())
    assert text.split(SECTION)[1].split("What differs")[0].count("CacheFL") == 2


def test_classes_without_rows_are_not_drawn_and_of_many_the_lowest_are(make_run):
    shown = quality.class_chart(make_run(methods={"cachefl": FIGURES}))
    assert "&lt;b&gt;one&lt;/b&gt; &amp; $co$: 62.0%; zero: 91.0%." in shown["chart"]
    assert "two" not in shown["chart"]
    many = {"test_class_accuracy": [share / 100 for share in range(100)]}
    names = [f"class-{number}." for number in range(100)]
    run = make_run(methods={"cachefl": many, "zero_shot": many}, dataset={"class_names": names})
    shown = quality.class_chart(run)
    assert [f">class-{number}.<" in shown["chart"] for number in (0, 19, 20)] == [True, True, False]
    assert shown["caption"] == (
        "Filled: CacheFL. Hollow: zero-shot CLIP. The 20 of 100 classes on which CacheFL is right least often."
    )


def test_drift_is_drawn_where_a_run_has_measured_it(make_run, text_of):
    run, heading = make_run(), "How far the clients move apart"
    assert heading not in text_of(run)
    measured = {"update_norm": 2.5, "cosine_to_mean": 0.61, "gradient_diversity": 0.9}
    first, second, *rest = run.rounds
    rounds = [first, second | measured, *(line | measured | {"gradient_diversity": None} for line in rest)]
    run = run._replace(rounds=rounds)
    assert f"{heading} Before anything is done to the updates" in text_of(run)
    told = drift.shown(run)["chart"]
    assert "length of an update: from 2.50 in round 1 to 2.50 in round 1; cosine to the mean update: from 0.61" in told


def test_accuracy_is_drawn_by_hours_and_bytes_where_a_run_has_a_clock(make_run, text_of):
    heading = "Accuracy by hours and by bytes"
    assert heading not in text_of(make_run())
    sites = {"virtual_hours": 1.5, "seconds": 4.0, "waiting_seconds": 0.5, "updates_lost": 0.25}
    run = make_run(methods={"cachefl": {"sites": sites}})
    run = run._replace(rounds=[line | {"virtual_seconds": 1800.0 * line["round"]} for line in run.rounds])
    assert f"{heading} Test accuracy by the virtual clock, and by the bytes" in text_of(run)
    told = clock.shown(run)
    assert "CacheFL: 94.1% after 1.50 virtual hours and 96 KiB" in told["chart"]
    assert "turn took 4.00 s on average, and its update waited 500 ms to be taken; 25.0% of" in told["caption"]
    np.testing.assert_array_equal(clock.points_of(run.rounds), [[0, 1, 1.5], [0, 65536, 98304], [0.663, 0.9, 0.941]])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("test_balanced_accuracy", 1.5),
        ("test_cross_entropy", -1),
        ("test_class_accuracy", [0.5, "high"]),
        ("clients", {"mean": 2}),
        ("rounds_to", [1]),
    ],
)
def test_figures_that_no_run_writes_are_refused_by_name(make_workdir, field, value):
    workdir = make_workdir()
    summary = json.loads((workdir / "summary.json").read_text())
    summary["methods"]["cachefl"] |= FIGURES | {field: value}
    (workdir / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError, match=f"summary.json: got methods.cachefl.{field} = "):
        write_report([workdir])
    summary["methods"]["cachefl"] |= FIGURES
    (workdir / "summary.json").write_text(json.dumps(summary))
    assert read_summary(workdir / "summary.json")["methods"]["cachefl"]["rounds_to"] == FIGURES["rounds_to"]
