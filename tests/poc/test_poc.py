"""A proof of concept from folders of sites to the decision: every number again from the files that it leaves."""

import csv
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import from_json, resolve
from cachefl_jax.configs import poc as shipped
from cachefl_jax.data.card import Cells
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Scores
from cachefl_jax.poc import plan
from cachefl_jax.poc.again import draw_again
from cachefl_jax.poc.asked import accepted
from cachefl_jax.poc.file import write_config
from cachefl_jax.poc.run import run_poc
from cachefl_jax.poc.samples import compared
from cachefl_jax.simulation.finished_clients import FinishedClients
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.scores import OwnRows
from cachefl_jax.storage.files import read_json
from cachefl_jax.study.folder import unpacked_classes
from cachefl_jax.study.statistics import Sample, difference

pytestmark = pytest.mark.quick

HELD = {
    "aachen": {"blue bar": 16, "green disc": 12},
    "bonn": {"green disc": 12, "red square": 16},
    "celle": {"blue bar": 10, "green disc": 10, "red square": 10},
}
NAMES = sorted(HELD["celle"])
ROWS = ("zero_shot", "local_only", "cachefl", "ridge")


@pytest.fixture(scope="module")
def sites(make_pictures, tmp_path_factory):
    """Three sites, of which two lack a class."""
    counts = {f"{site}/{name}": count for site, held in HELD.items() for name, count in held.items()}
    return make_pictures(tmp_path_factory.mktemp("sites"), counts)


@pytest.fixture(scope="module")
def asked(sites):
    """(**changes) -> the shipped config for these sites, small."""

    def make(**changes):
        config = shipped.get_config()
        config.data.path, config.data.layout, config.clip.templates = str(sites), "site/class", ("{}",)
        config.synthesis.images_per_class, config.cache.keys_per_class, config.rounds = 2, 2, 3
        config.compare, config.local.batch_size, config.engine.devices = ROWS, 8, 1
        config.study.seeds, config.poc.most_points, config.poc.shots = 2, 1, ("2",)
        config.data.duplicates = "ignore"  # noise on one shape is a near-duplicate, and meant here
        config.update_from_flattened_dict(changes)
        return config

    return make


@pytest.fixture(scope="module")
def done(asked, tmp_path_factory):
    """(the decision, its folder)."""
    folder = tmp_path_factory.mktemp("poc") / "w"
    return run_poc(asked(), folder), folder


@pytest.fixture(scope="module")
def answers(done):
    """predictions.csv, a dict for each test image."""
    with open(done[1] / "predictions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def right(done, answers):
    """By row [seeds, n]: which test images are right, from the study's own lines."""
    decision, folder = done
    labels = np.array([NAMES.index(line["label"]) for line in answers])
    found: dict[str, dict[int, np.ndarray]] = {}
    for text in (folder / "first" / "runs.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["values"] == decision["rows"][line["row"]]["values"]:
            found.setdefault(line["row"], {})[line["seed"]] = unpacked_classes(line["predicted"]) == labels
    return {row: np.stack([seeds[seed] for seed in decision["seeds"]]) for row, seeds in found.items()}


def test_every_site_keeps_test_images_of_its_own(done, answers, sites):
    decision, _ = done
    assert [site["name"] for site in decision["sites"]] == list(HELD)
    for site in decision["sites"]:
        own = [line for line in answers if line["site"] == site["name"]]
        assert len(own) == site["test"] > 0
        assert {line["label"] for line in own} == set(HELD[site["name"]])
        assert all(line["file"] == f"{line['site']}/{line['label']}/{pathlib.Path(line['file']).name}" for line in own)
        assert all((sites / line["file"]).is_file() for line in own)
    rows = sum(site["train"] + site["validation"] + site["test"] for site in decision["sites"])
    assert rows + 2 * len(NAMES) == sum(sum(held.values()) for held in HELD.values())  # the server's, two a class


def test_accuracies_are_those_of_the_study(done, right, answers):
    decision, folder = done
    assert set(decision["rows"]) == set(ROWS) == set(right)
    lines = [json.loads(line) for line in (folder / "first" / "runs.jsonl").read_text().splitlines()]
    for name, row in decision["rows"].items():
        assert row["test_accuracy"] == pytest.approx(right[name].mean())
        first = np.mean([line[name] == line["label"] for line in answers])
        assert first == pytest.approx(right[name][0].mean())
        if name != "local_only":  # there the study's mean is over sites' models on all test images
            chosen = [line for line in lines if line["row"] == name and line["values"] == row["values"]]
            told = np.mean([line["entry"]["test_accuracy"] for line in chosen])
            assert row["test_accuracy"] == pytest.approx(told, abs=1e-6)


def test_alone_each_image_is_judged_by_its_own_sites_model(answers):
    assert all(line["local_only"] in NAMES for line in answers)
    # A site's own model has seen images of its classes alone; CacheFL's has seen them all.
    missed = [line for line in answers if line["local_only"] not in HELD[line["site"]]]
    assert len(missed) <= len(answers) // 3


def test_parts_are_means_over_their_images_and_seeds(done, right, answers):
    decision, _ = done
    best = decision["recommended"]
    for what, parts in (("site", decision["sites"]), ("label", decision["classes"])):
        for part in parts:
            mask = np.array([line[what] == part["name"] for line in answers])
            assert part["test"] == mask.sum()
            for row, accuracy in part["rows"].items():
                assert accuracy == pytest.approx(right[row][:, mask].mean())
            gain = right[best][:, mask].mean() - right["local_only"][:, mask].mean()
            assert part["gain"]["points"] == pytest.approx(100 * gain)


def test_the_confusion_is_that_of_the_first_seed(done, answers):
    decision, _ = done
    counts = np.zeros((len(NAMES), len(NAMES)), int)
    for line in answers:
        counts[NAMES.index(line["label"]), NAMES.index(line[decision["recommended"]])] += 1
    assert decision["confusion"] == {"row": decision["recommended"], "counts": counts.tolist()}


def test_the_recommended_row_is_best_on_validation_and_sends_no_features(done):
    decision, _ = done
    federated = {name: row for name, row in decision["rows"].items() if row["regime"] == "federated"}
    assert set(federated) == {"cachefl", "ridge"}
    best = max(row["validation_accuracy"] for row in federated.values())
    assert decision["rows"][decision["recommended"]]["validation_accuracy"] == best


def test_the_verdict_is_the_difference_to_each_site_alone(done):
    decision, _ = done
    rows, found = decision["rows"], decision["family"]["local_only"]
    gain = rows[decision["recommended"]]["test_accuracy"] - rows["local_only"]["test_accuracy"]
    assert found["points"] == pytest.approx(100 * gain)
    assert decision["verdict"]["kind"] == {"better": "better", "worse": "worse"}.get(found["verdict"], "equal")
    assert f"{abs(found['points']):.1f} ± {found['half']:.1f} points" in decision["verdict"]["sentence"]


def test_rounds_that_are_enough_are_those_of_the_run(done):
    decision, folder = done
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    told = decision["rounds"]
    assert told["test"] == [line["test_accuracy"] for line in lines]
    assert told["validation"] == [line["validation_accuracy"] for line in lines]
    assert (told["row"], told["of"], told["settled"]) == ("cachefl", 3, told["enough"] < 3)
    enough, least = told["evaluated"].index(told["enough"]), told["validation"][-1] - told["error"]
    assert all(each >= least for each in told["validation"][enough:])
    assert enough == 0 or told["validation"][enough - 1] < least


def test_what_is_deployed_is_there(done):
    decision, folder = done
    assert (folder / "run" / "cache.safetensors").is_file()
    assert (folder / "report.html").stat().st_size > 20_000
    assert json.loads((folder / "decision.json").read_text()) == json.loads(json.dumps(decision))


def test_the_run_is_evaluated_as_it_was_with_each_site_on_its_own_images(done, make_pictures, tmp_path, capsys):
    run = done[1] / "run"
    config, summary = from_json(read_json(run / "config.json")), read_json(run / "summary.json")
    found, told = evaluate(config, run, None), summary["methods"]["cachefl"]
    assert {name: found[name] for name in ("test_accuracy", "validation_accuracy", "clients")} == {
        name: pytest.approx(told[name]) for name in ("test_accuracy", "validation_accuracy", "clients")
    }
    config.data.path, config.data.layout = str(make_pictures(tmp_path, dict.fromkeys(NAMES, 4))), "class"
    assert set(evaluate(config, run, None)["clients"].values()) == {None}
    assert "figures over the clients are left out" in capsys.readouterr().err


def test_bytes_of_images_are_those_of_the_files(done, sites, answers):
    decision, _ = done
    tested = {line["file"] for line in answers}
    for site in decision["sites"]:
        files = [file for file in (sites / site["name"]).rglob("*.png") if str(file.relative_to(sites)) not in tested]
        assert 0 < site["image_bytes"] < sum(file.stat().st_size for file in files)  # validation is not sent


def test_without_a_site_and_with_few_images(done):
    decision, _ = done
    assert [each["site"] for each in decision["left_out"]] == list(HELD)
    for each, site in zip(decision["left_out"], decision["sites"], strict=True):
        assert each["site"] == site["name"]
        assert all(0 <= each[which][whose] <= 1 for which in ("with", "without") for whose in ("own", "others"))
    assert decision["shots"]["shots"] == [2]
    assert set(decision["shots"]["rows"]) == {"cachefl", "local_only", decision["recommended"]}


def test_the_same_again_says_the_same_and_another_is_refused(done, asked):
    decision, folder = done
    again = run_poc(asked(), folder)
    timed = ("seconds", "minutes", "work")
    assert {name: again[name] for name in again if name not in timed} == {
        name: decision[name] for name in decision if name not in timed
    }
    with pytest.raises(UsageError, match=r"of another config \(rounds 3 there, 4 here\)"):
        run_poc(asked(rounds=4), folder)


def test_the_page_is_drawn_again_from_the_decision(done, tmp_path):
    folder = done[1]
    path = draw_again(folder, 1, tmp_path / "again.html")
    assert path.read_bytes() == (folder / "report.html").read_bytes()
    with pytest.raises(UsageError, match="a proof of concept's"):
        draw_again(folder, 2, None)
    (tmp_path / "poc.json").write_text("{}")
    with pytest.raises(UsageError, match="not done yet"):
        draw_again(tmp_path, 1, None)


def test_the_terminal_tells_of_the_time_and_of_each_row_and_of_no_engine(done, asked, capsys):
    copy = done[1].parent / "copy"
    shutil.copytree(done[1], copy)
    for name in ("runs.jsonl", "results.json"):
        (copy / "shots" / name).unlink()
    run_poc(asked(**{"synthesis.price_gpu_hour": 3.0}), copy)
    told = capsys.readouterr().err
    assert told.startswith("10 minutes (poc.minutes): reading, encoding and every row once by 2 seeds come first")
    assert "synthesis.price_gpu_hour has no effect" in told
    rows = [line for line in told.splitlines() if line.startswith("shots: ") and " rows" in line and ", 1 of" in line]
    assert len(rows) == 1
    assert re.search(r"shots: \w+, 1 of (2|3) rows, about [\d.]+ (ms|s|min) left", rows[0])
    assert re.search(r"shots: 1 setting, (2|3) rows, 1 point, 1 seed\n", told)
    assert "engine:" not in told


@pytest.mark.parametrize("word", ["celle", "2"])
def test_a_site_that_is_left_out_is_neither_trained_nor_tested_on(asked, word):
    config = accepted(resolve(asked(**{"partition.left_out": (word,)})))
    assert config.data.left_out_sites == (word,)
    inputs = prepare(config)
    assert inputs.partition.clients == 2
    assert set(inputs.test_clients) == set(inputs.validation_clients) == {0, 1}
    assert plan.left_out_settings(2, ["aachen", "bonn"])[1] == {"partition.left_out": ("bonn",)}


def test_of_two_sites_of_one_name_each_is_left_out_by_its_number():
    settings = plan.left_out_settings(3, ["a", "a", "b"])
    assert settings == [{"partition.left_out": (word,)} for word in ("0", "1", "b")]


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "the sites"])
def test_a_folder_of_the_servers_images_that_is_none_is_refused_before_anything_is_read(asked, sites, tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    path = sites if kind == "the sites" else tmp_path / kind
    config = asked(**{"synthesis.source": "image_folder", "synthesis.path": str(path), "data.layout": "auto"})
    with pytest.raises(UsageError, match=r"--synthetic \(synthesis.path\): got ") as told:
        run_poc(config, tmp_path / "w")
    assert "real images are set apart then" in told.value.mend
    assert not (tmp_path / "w").exists()


def test_the_config_file_is_the_config(asked, tmp_path):
    write_config(asked(), tmp_path)
    space: dict = {}
    exec((tmp_path / "config.py").read_text(), space)
    from cachefl_jax.config import resolve

    assert resolve(space["get_config"]()) == resolve(asked())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("file,answer\na,b\n", "columns"),
        ("file,prediction\naachen/blue bar/000.png,blue bar\n", "leaves out"),
        ("file;prediction\naachen/blue bar/000.png;blue bar\n", "with semicolons between its columns"),
        ("file,prediction\n" + 2 * "aachen/blue bar/000.png,blue bar\n", "more than a line for 1 images"),
    ],
)
def test_predictions_of_today_that_do_not_fit_are_told(asked, tmp_path, lines, words):
    (tmp_path / "now.csv").write_text(lines)
    with pytest.raises(UsageError, match=words):
        run_poc(asked(**{"poc.current": str(tmp_path / "now.csv")}), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_todays_model_comes_later_into_the_same_folder(done, asked, answers, tmp_path):
    decision, folder = done
    lines = ["file,prediction", *(f"{line['file']},{line['cachefl'].upper()}" for line in answers)]
    (tmp_path / "now.csv").write_text("\n".join(lines))
    copy = shutil.copytree(folder, tmp_path / "w")
    trained = {name: (copy / name / "runs.jsonl").read_bytes() for name in ("first", "shots", "left_out")}
    again = run_poc(asked(**{"poc.current": str(tmp_path / "now.csv"), "poc.minutes": 3.0}), copy)
    assert again["current"]["test_accuracy"] == pytest.approx(
        np.mean([line["cachefl"] == line["label"] for line in answers])
    )
    assert again["current"]["against"]["ridge"]["points"] == pytest.approx(
        100 * (decision["rows"]["ridge"]["test_accuracy"] - again["current"]["test_accuracy"])
    )
    assert any("your current model" in line for line in again["verdict"]["more"])
    assert trained == {name: (copy / name / "runs.jsonl").read_bytes() for name in trained}


def test_what_is_told_of_a_difference_is_the_studys():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    pair = [np.where(rng.random((3, 40)) < share, labels, (labels + 1) % 3) for share in (0.9, 0.5)]
    (found,) = compared([(*pair, labels)])
    ours = [
        Sample((each == labels).mean(axis=1), list((each == labels).astype(float)), ["t"] * len(each)) for each in pair
    ]
    expected = difference(*ours)
    assert found["points"] == pytest.approx(100 * expected.mean)
    assert found["half"] == pytest.approx(100 * expected.half)
    assert found["p"] == found["p_single"] == expected.p
    assert found["comparisons"] == 1
    assert found["verdict"] == "better"


def test_validation_of_each_site_alone_is_by_its_own_model():
    own = OwnRows(Cells(*(np.zeros(0, int),) * 3, 2, 4), True, np.array([2, 2]), np.array([0, 1, 1, 0]),
                  np.array([0, 1, 1]))  # fmt: skip
    finished = FinishedClients(None, 2, [4, 3], 1, own)
    correct = np.array([[True, False, False], [False, True, False]])

    def scores(right: np.ndarray) -> Scores:
        clients, rows = right.shape
        counts = np.stack([right.sum(axis=1), np.zeros(clients, int)], axis=1)
        of_class = np.tile([rows, 0], (clients, 1))
        return Scores(counts, of_class, np.zeros((clients, 15)), np.zeros(clients), np.ones(clients, bool), right,
                      np.repeat(np.arange(clients, dtype=np.int32), rows).reshape(clients, rows))  # fmt: skip

    tested = np.ones((2, 4), bool)
    finished.add(np.arange(2), [scores(tested), scores(correct)], np.zeros(2), np.arange(2))
    np.testing.assert_array_equal(finished.each_row().predicted, [0, 1, 1, 0])  # model c takes all for class c
    assert finished.means()[1] == pytest.approx(2 / 3)  # rows 0 and 1 by their own; the mean over models is 1 / 3
