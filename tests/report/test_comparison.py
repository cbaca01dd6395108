"""Several runs on one page: never over a run's own, small for many, and no two runs that look alike."""

import json

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.report import comparison, curve, page, palette, write_report
from cachefl_jax.report.page import place


def test_several_runs_need_a_place_of_their_own(make_workdir, tmp_path):
    runs = [make_workdir("first"), make_workdir("second")]
    for output, match in (
        (None, r"--output: got nothing; allowed: an \.html file or a folder"),
        (runs[0], r"--output: got .*first/report\.html; allowed: a place that is no run's own page"),
        (runs[1] / "report.html", r"second/report\.html"),
    ):
        with pytest.raises(UsageError, match=match):
            write_report(runs, output)
    assert not list(tmp_path.glob("**/*.html"))


def test_where_a_page_goes(make_workdir, tmp_path):
    run = make_workdir()
    (tmp_path / "notes").write_text("mine")
    assert place([run], None) == run / "report.html"
    assert place([run], tmp_path / "new.html") == tmp_path / "new.html"
    assert place([run, run], run / "both.html") == run / "both.html"
    assert place([run, run], tmp_path) == place([run], tmp_path) == tmp_path / "report.html"
    assert place([run, run], tmp_path / "new") == tmp_path / "new" / "report.html"
    with pytest.raises(UsageError, match=r"--output: got .*notes; allowed: an \.html file or a folder"):
        place([run, run], tmp_path / "notes")


def test_no_two_runs_look_alike(make_run):
    run = make_run()
    looks = [
        (series.colour, series.dash, series.marker)
        for index in range(curve.MOST_CURVES)
        for series in curve.curves_of(run.name, run.rounds, index, True)
        if not series.thin
    ]
    assert len(set(looks)) == curve.MOST_CURVES == len(looks)
    colours = [palette.run_colour(index) for index in range(10)]
    assert colours == [*palette.SERIES_NAMES, *[palette.SPARE] * 4]
    assert "Drawn are the first 24 of 30 runs." in curve.caption([run] * 30)
    assert "Thin" not in curve.caption([run] * 7)
    assert "Thin" in curve.caption([run] * 6)
    assert "Drawn are" not in curve.caption([run] * 24)


def test_many_runs_make_a_small_page(make_run):
    """Eighteen runs with partitions and pictures of their own, of real size and as hard to compress as any."""
    rng, runs = np.random.default_rng(0), []
    for index in range(18):
        run = make_run(seed=index)
        synthetic, real = rng.integers(0, 255, (2, 3, 8, 64, 64, 3), np.uint8)
        cells = run.cells._replace(count=run.cells.count + index)
        runs.append(run._replace(name=f"run {index}", synthetic=synthetic, real=real, cells=cells))
    text = page.render(runs)
    assert len(text) < 3_000_000
    assert "Who holds what in run 4, run 5, run 6, run 7, run 8, run 9 and 8 more: on the" in text
    assert "The images of run 2, run 3, run 4, run 5, run 6, run 7 and 10 more: on the" in text
    assert text.count("<figure>") == 1 + comparison.MOST_HOLDINGS
    assert text.count("<img") == 2 * 3 * comparison.MOST_SHEETS


def test_what_runs_share_is_shown_once(make_run, text_of):
    first, second = make_run(), make_run(synthesis={"source": "held_out"})
    text = text_of(first, second)
    assert text.count("Who holds what") == 1
    assert "Who holds what run1 and run2 A line a client" in text
    assert text.count("on 40 rows that no client trained on") == 1
    assert "run2. The cache was made of real images" in text
    assert "run1. The features of the cache go to every client." in text
    same = text_of(first, make_run())
    assert "What differs between the runs Nothing: all have the same config." in same


def test_runs_without_any_images_say_so(make_run, text_of):
    assert "None of these runs left images to show." in text_of(make_run(images=False), make_run(images=False))


def test_the_title_counts_the_runs_without_an_accuracy(make_run, text_of):
    lost = make_run(methods={"cachefl": {"test_accuracy": None}})
    assert "2 runs compared: 94.1% of their test images classified correctly; 1 has no test accuracy." in text_of(
        make_run(), lost
    )
    assert "2 runs compared: none has a test accuracy." in text_of(lost, lost._replace(name="other"))


def test_differences_are_rows_of_runs_where_there_are_more_runs_than_fields(make_run):
    wide = comparison.differences([make_run(seed=1, rounds=3), make_run(seed=2, cohort=1)])
    assert wide["head"] == ["field", "run1", "run2"]
    assert ["seed", "1", "2"] in wide["rows"]
    tall = comparison.differences([make_run(seed=1), make_run(seed=2)])
    assert (tall["head"], tall["rows"]) == (["run", "seed"], [["run3", "1"], ["run4", "2"]])


def test_folders_whose_names_are_no_text_are_shown(make_workdir, tmp_path):
    odd = make_workdir("run\udcff")
    (odd / "config.json").write_text(json.dumps(json.loads((odd / "config.json").read_text())))
    assert "run\\udcff" in write_report([odd]).read_text(encoding="utf-8")


def test_a_page_goes_into_a_folder_and_not_over_another_runs(make_workdir, tmp_path):
    first, second = make_workdir("first"), make_workdir("second")
    (tmp_path / "file").touch()
    for output, told in ((second, "no run's own page"), (tmp_path / "file" / "a.html", "is a file")):
        with pytest.raises(UsageError, match=f"--output: got .*{told}"):
            place([first], output)
    assert place([first], first) == first / "report.html"


def test_a_data_set_is_called_by_its_title(make_run, text_of):
    assert "run1 · Weld seams" in text_of(make_run(dataset={"name": "sets/seams.json", "title": "Weld seams"}))


def test_test_rows_that_are_copies_of_training_images_are_not_said_to_be_new(make_run, text_of):
    told = text_of(make_run(notes=["3 of 40 test images are training images too, byte for byte: beware."]))
    assert "on 40 rows held out of training, some of them copies of training images." in told
    assert "no client trained on" not in told
