"""A study of a small bank: tuned on validation alone, equal to runs with its values, resumed, and refused elsewhere."""

import csv
import json
import re
import shutil
import signal

import numpy as np
import pytest

import cachefl_jax
from cachefl_jax import interrupts
from cachefl_jax.config import Row, changed
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.gda import gda
from cachefl_jax.simulation.build import Learner, NotFinite, Scorer
from cachefl_jax.simulation.scores import Right
from cachefl_jax.simulation.sweep_groups import Prepared
from cachefl_jax.study import folder, run, trainers
from cachefl_jax.study.folder import RUNS, Key, claim, key_of, packed, read_lines, unpacked
from cachefl_jax.study.page import FILES
from cachefl_jax.study.plan import study_of
from cachefl_jax.study.results import choose, standing
from cachefl_jax.study.run import run_study
from experiments.configs import feature_bank

pytestmark = pytest.mark.quick
PROBE = "tests/methods/linear_probe.py:probe"
ONCE = ("cachefl@alone", "cachefl@centralized", "cachefl@features_once")
ROWS = ("zero_shot", "cache_init", "cachefl", *ONCE, "ridge", PROBE)
SETTINGS = [{}, {"rounds": 2}]
TRAINED = ("cachefl", *ONCE, "ridge", "probe")


def config_on(bank, **changes):
    base = feature_bank.get_config()
    base.data.path, base.partition.clients, base.rounds, base.compare = str(bank), 3, 3, ROWS
    base.study.seeds, base.study.budget = 2, 3
    base.engine.devices, base.engine.strategy = 1, "scan"
    return changed(base, changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory, make_bank_in):
    """(config, study, folder) of a study that is finished."""
    folder = tmp_path_factory.mktemp("study")
    config = config_on(make_bank_in(folder))
    study = study_of(config, SETTINGS)
    run_study(study, folder / "study")
    return config, study, folder / "study"


def test_every_trained_row_has_the_same_number_of_points_and_all_seeds_at_the_chosen_one(done):
    _, study, folder = done
    lines = read_lines(folder / "runs.jsonl")
    for setting in study.settings:
        for row in study.rows:
            keys = [key for key in lines if key[:2] == (setting.name, row.name)]
            points = 1 if row.name == "zero_shot" else 3
            assert sorted(key.candidate for key in keys if key.seed == 0) == list(range(points))
            assert [key.candidate for key in keys if key.seed == 1] == [choose(lines, setting.name, row, study)]


def test_values_are_chosen_by_validation_accuracy_and_never_by_test(done):
    _, study, folder = done
    lines = read_lines(folder / "runs.jsonl")
    row = next(row for row in study.rows if row.name == "cachefl")
    for setting in study.settings:
        tuned = {key.candidate: line["entry"] for key, line in lines.items() if key[:3] == (setting.name, "cachefl", 0)}
        best = max(tuned, key=lambda number: (tuned[number]["validation_accuracy"], -number))
        assert choose(lines, setting.name, row, study) == best
    worst = {**lines}
    for key, line in worst.items():  # whatever test says, and whatever the seeds say that nothing is tuned on
        entry = line["entry"] | {"test_accuracy": 1.0 if key.candidate != best else 0.0}
        entry |= {"validation_accuracy": 0.0} if key.seed == 1 else {}
        worst[key] = line | {"entry": entry}
    assert choose(worst, setting.name, row, study) == best


def test_a_run_with_the_chosen_overrides_comes_to_the_same(done):
    config, study, folder = done
    setting, seed = study.settings[1], 1
    told = json.loads((folder / "chosen.json").read_text())[setting.name]
    own = changed(config, {**setting.overrides, "seed": seed, "overrides": tuple(told["overrides"])})
    summary = cachefl_jax.simulate(own, workdir=None).summary
    lines = read_lines(folder / "runs.jsonl")
    for row in study.rows:
        found = next(line for key, line in lines.items() if key[:3] == (setting.name, row.name, seed))["entry"]
        alone = summary["methods"][row.name]
        same = ("rounds", "total_bytes", "uplink_bytes_per_client_round", "label", "regime", "privacy")
        for name in (*same, "client_flops_per_round"):
            assert found.get(name) == alone.get(name), (row.name, name)
        for name in ("test_accuracy", "validation_accuracy", "test_cross_entropy"):
            assert found[name] == pytest.approx(alone[name], abs=1e-5), (row.name, name)
        if row.name in TRAINED:
            assert alone["overrides"] == told["rows"][row.name]


def test_a_fine_tuned_row_is_tuned_with_the_rounds_that_it_goes_on_from(make_bank, tmp_path):
    rows = {"compare": ("cachefl", "cachefl@fine_tuned"), "study.seeds": 1, "rounds": 2, "personal.epochs": 2}
    config = config_on(make_bank(), **rows)
    study = study_of(config, [{}])
    run_study(study, tmp_path / "study")
    lines = read_lines(tmp_path / "study" / "runs.jsonl")
    for key, line in lines.items():
        if key.row == "cachefl@fine_tuned":
            assert unpacked(line["correct"]).mean() == pytest.approx(line["entry"]["test_accuracy"])
            words = tuple(f"cachefl: {field}={value}" for field, value in line["values"].items())
            alone = cachefl_jax.simulate(changed(config, {"overrides": words}), None).summary["methods"][key.row]
            for name in ("test_accuracy", "validation_accuracy", "test_cross_entropy", "client_flops_per_round"):
                assert line["entry"][name] == pytest.approx(alone[name], abs=1e-5)
            rounds = lines[key._replace(row="cachefl")]["entry"]
            assert line["entry"]["test_cross_entropy"] != pytest.approx(rounds["test_cross_entropy"], abs=1e-4)
    (told,) = json.loads((tmp_path / "study" / "chosen.json").read_text()).values()
    assert told["rows"].keys() == {"cachefl", "cachefl@fine_tuned"}
    assert {word.split(": ")[0] for word in told["overrides"]} == {"cachefl"}


def test_which_rows_are_right_agrees_with_the_accuracy(done):
    lines = read_lines(done[2] / "runs.jsonl")
    for key, line in lines.items():
        shares = unpacked(line["correct"])
        assert shares.mean() == pytest.approx(line["entry"]["test_accuracy"])
        models = 3 if key.row == "cachefl@alone" else 1
        assert (shares * models % 1 < 1e-9).all()


@pytest.mark.parametrize("models", [1, 2, 255, 256, 70_000])
def test_rows_that_are_right_are_written_and_read(models):
    counts = np.asarray([models, 0, 0, models, models // 2, 0, 1, 0, 1])
    assert unpacked(packed(Right(counts, models))).tolist() == (counts / models).tolist()


def test_without_rounds_every_clients_model_has_the_rows_right_that_the_start_has(make_bank, tmp_path):
    rows = {"compare": ("cache_init", "cachefl", "cachefl@alone", "cachefl_personal"), "rounds": 0}
    rows |= {"study.budget": 1, "study.seeds": 1}
    run_study(study_of(config_on(make_bank(), **rows), [{}]), tmp_path / "study")
    found = {key.row: unpacked(line["correct"]) for key, line in read_lines(tmp_path / "study" / RUNS).items()}
    assert len(found) == 4
    for shares in found.values():
        assert 0 < shares.mean() < 1
        assert (shares == found["cache_init"]).all()


def test_rows_of_clients_own_models_have_the_test_over_rows_too(done):
    results = json.loads((done[2] / "results.json").read_text())
    pairs = [pair for setting in results["settings"] for pair in setting["pairs"] if "cachefl@alone" in pair.values()]
    assert len(pairs) == 2 * (len(ROWS) - 1)
    assert all(pair["p_test_rows"] is not None for pair in pairs)


def test_a_study_that_other_code_has_begun_does_not_go_on(make_bank, tmp_path, monkeypatch):
    rows = {"compare": ("zero_shot", "cachefl"), "study.seeds": 1, "study.budget": 1, "rounds": 0}
    study, begun = study_of(config_on(make_bank(), **rows), [{}]), tmp_path / "study"
    run_study(study, begun)
    first, _ = (begun / RUNS).read_text().splitlines(keepends=True)
    monkeypatch.setattr(folder, "package_digest", lambda: "f" * 64)
    (begun / "results.json").unlink()
    run_study(study, begun)  # all is trained: only the files are written anew
    (begun / RUNS).write_text(first)  # the files are all there, and are of two lines
    with pytest.raises(UsageError, match=r"begun by other code .*now ffff.*go on with that version"):
        run_study(study, begun)
    assert (begun / RUNS).read_text() == first


def test_lines_of_points_that_the_search_does_not_ask_for_count_no_more(make_bank, tmp_path):
    study = study_of(config_on(make_bank(), **{"compare": ("cachefl",), "study.seeds": 1, "rounds": 0}), [{}])
    run_study(study, tmp_path / "study")
    path = tmp_path / "study" / RUNS
    before = read_lines(path)
    best = {"entry": before[Key("", "cachefl", 0, 1)]["entry"] | {"validation_accuracy": 1.0}}
    first, second, third = before.values()
    lines = [first, second | best | {"values": {"cache.alpha": 2.0}}, third, third | best | {"candidate": 9}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_study(study, tmp_path / "study")
    assert read_lines(path) == before


def test_validation_rows_that_are_the_test_rows_choose_nothing(make_bank, tmp_path):
    with np.load(make_bank()) as bank:
        same = {"val_features": bank["test_features"], "val_labels": bank["test_labels"]}
    config = config_on(make_bank(**same))
    with pytest.raises(UsageError, match=r"data: got validation rows that are the test rows"):
        run_study(study_of(config, [{}]), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_row_by_two_of_its_names_is_one(make_bank):
    words = ("cachefl", "cache_init", "cachefl@round_0", "local_only", "cachefl@alone")
    study = study_of(config_on(make_bank(), compare=words), [{}])
    assert [row.name for row in study.rows] == ["cachefl", "cache_init", "local_only"]


def of_seeds(*scores):
    """Lines of one row, [candidate][seed]; None: training did not stay finite."""
    return {
        Key("", "cachefl", seed, number): {
            "diverged": score is None, "values": {}, "correct": None, "parts": {},
            "entry": {"validation_accuracy": score, "test_accuracy": score, "total_bytes": 7},
        }
        for number, each in enumerate(scores) for seed, score in enumerate(each)
    }  # fmt: skip


def test_a_point_that_diverged_for_one_seed_is_worse_than_any_that_did_not(make_bank):
    changes = {"study.seeds": 3, "study.tuning_seeds": 3}
    study = study_of(config_on(make_bank(), **changes), [{}])
    row = next(row for row in study.rows if row.name == "cachefl")
    assert choose(of_seeds([0.9, None, 0.9], [0.1, 0.2, 0.1]), "", row, study) == 1
    assert choose(of_seeds([None] * 3, [None] * 3), "", row, study) == 0


def test_of_a_row_that_diverged_for_one_seed_the_others_do_not_stand_for_it():
    found = {key.seed: line for key, line in of_seeds([0.9, None, 0.8]).items()}
    row = standing("cachefl", found, 1)
    assert row.mean is None
    assert row.diverged == 1
    assert row.average("validation_accuracy") is None
    assert row.average("total_bytes") == 7
    assert list(row.runs) == [0, 1, 2]


@pytest.mark.parametrize("field", ["method", "cache.alpha", "local.learning_rate"])
def test_whatever_does_not_stay_finite_is_a_point_that_diverged(make_bank, monkeypatch, field):
    def refuse(*_):
        raise NotFinite(field, "gda", "finite numbers", "choose another")

    monkeypatch.setattr(trainers, "compare", refuse)
    learner = Learner(**dict.fromkeys(Learner._fields))._replace(method=gda, score=Scorer(*[None] * 5))
    point = Prepared(3, config_on(make_bank()), None, learner)
    told = trainers.single_point(Row("gda@alone", "gda", "alone"), point)
    assert (told.number, told.diverged, told.entry["test_accuracy"], told.entry["total_bytes"]) == (3, True, None, None)


def test_a_cross_entropy_as_large_as_float32_has_it_is_read_again(make_bank, tmp_path):
    rows = {"compare": ("cachefl",), "study.seeds": 1, "study.budget": 1, "cache.alpha": 1e38, "rounds": 0}
    run_study(study_of(config_on(make_bank(), **rows), [{}]), tmp_path / "study")
    (line,) = read_lines(tmp_path / "study" / RUNS).values()
    assert 1e30 < line["entry"]["test_cross_entropy"] < 3.4e38


def test_all_results_are_there_and_agree(done):
    _, study, folder = done
    results = json.loads((folder / "results.json").read_text())
    lines = read_lines(folder / "runs.jsonl")
    assert [setting["name"] for setting in results["settings"]] == ["", "rounds=2"]
    for setting in results["settings"]:
        for name, row in setting["rows"].items():
            row_of = next(row for row in study.rows if row.name == name)
            chosen = choose(lines, setting["name"], row_of, study)
            expected = [lines[Key(setting["name"], name, seed, chosen)]["entry"]["test_accuracy"] for seed in (0, 1)]
            assert row["test_accuracy_mean"] == pytest.approx(np.mean(expected))
            assert row["test_accuracy_std"] == pytest.approx(np.std(expected, ddof=1))
        assert len(setting["against_method"]) == len(ROWS) - 1
        assert len(setting["pairs"]) == len(ROWS) * (len(ROWS) - 1) / 2
    table = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(table) == 2 * len(ROWS) * 2
    assert results["headline"][0] in (folder / "results.md").read_text()
    page = (folder / "study.html").read_text()
    assert re.search(r"<h1>(.*?)</h1>", page).group(1) == results["headline"][0]
    assert "http://" not in re.sub(r'xmlns\S*="[^"]*"', "", page)
    assert "built-in" not in page
    for name in ("accuracy", "bytes"):
        for number in (1, 2):
            assert (folder / "figures" / f"{name}_{number}.pdf").read_bytes().startswith(b"%PDF")
            assert b"<svg" in (folder / "figures" / f"{name}_{number}.svg").read_bytes()


def test_a_finished_study_is_not_touched_and_lost_lines_come_back_the_same(done, tmp_path):
    _, study, folder = done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run_study(study, folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    killed = shutil.copytree(folder, tmp_path / "killed")
    for name in FILES:
        (killed / name).unlink()
    text = (killed / "runs.jsonl").read_text().splitlines(keepends=True)
    kept = [line for at, line in enumerate(text) if at % 3 == 0 or '"row": "cachefl",' not in line]
    (killed / "runs.jsonl").write_text("".join(kept))
    run_study(study, killed)
    lines, again = read_lines(folder / "runs.jsonl"), read_lines(killed / "runs.jsonl")
    timeless = lambda line: {**line, "entry": line["entry"] | {"seconds_per_round": 0}}  # noqa: E731
    assert {key: timeless(line) for key, line in lines.items()} == {key: timeless(line) for key, line in again.items()}
    for name in ("results.tex", "results.md", "chosen.json"):
        assert (killed / name).read_bytes() == (folder / name).read_bytes()


def test_a_study_leaves_between_its_runs_and_goes_on_there(make_bank, tmp_path, monkeypatch):
    monkeypatch.setattr(interrupts, "request", interrupts.Request())
    rows = {"compare": ("zero_shot", "cache_init", "cachefl"), "study.seeds": 1, "rounds": 0}
    study, real = study_of(config_on(make_bank(), **rows), [{}]), run.write_lines

    def write_lines(path, lines):
        real(path, lines)
        interrupts.request.number = signal.SIGINT if len(lines) == 2 else None

    monkeypatch.setattr(run, "write_lines", write_lines)
    monkeypatch.setattr(run, "SECONDS_A_SAVE", 0.0)
    with pytest.raises(interrupts.Interrupted):
        run_study(study, tmp_path / "study")
    interrupts.request.number = None
    assert len(read_lines(tmp_path / "study" / "runs.jsonl")) == 2
    assert not (tmp_path / "study" / "results.json").exists()
    run_study(study, tmp_path / "study")
    assert len(read_lines(tmp_path / "study" / "runs.jsonl")) == 7
    assert (tmp_path / "study" / "results.json").exists()


def test_another_study_and_a_runs_folder_are_refused(done, tmp_path):
    config, _, folder = done
    other = study_of(changed(config, {"rounds": 4}), SETTINGS)
    with pytest.raises(UsageError, match=r"--workdir: got .*with another study \(other config\)"):
        claim(folder, other)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"files but no study.json.*a study's"):
        claim(tmp_path, other)


def test_damaged_lines_are_told(done, tmp_path):
    copy = shutil.copytree(done[2], tmp_path / "copy")
    line = json.loads((copy / "runs.jsonl").read_text().splitlines()[0])
    assert key_of(line) == Key("", "zero_shot", 0, 0)
    (copy / "runs.jsonl").write_text(json.dumps(line | {"seed": "one"}) + "\n")
    with pytest.raises(UsageError, match=r"line 1.*seed = 'one'.*mend: delete this line"):
        claim(copy, done[1])
    for name, value in (("setting", "nowhere"), ("row", "nobody"), ("seed", 7)):
        (copy / "runs.jsonl").write_text(json.dumps(line | {name: value}) + "\n")
        with pytest.raises(UsageError, match=rf"a line of .*{value}.*lines of what study.json asks for"):
            claim(copy, done[1])
    wrong = packed(Right(1 - unpacked(line["correct"]).astype(int), 1))
    for correct in ("abc", "40:!!", "0:", "3:AA==", "40:x:AA==", "40:0:AA==", wrong):
        (copy / "runs.jsonl").write_text(json.dumps(line | {"correct": correct}) + "\n")
        with pytest.raises(UsageError, match=r"line 1: got correct = .*which test rows are right"):
            claim(copy, done[1])


@pytest.mark.parametrize(
    ("settings", "changes", "told"),
    [
        ([{"seed": 3}], {}, r"study: seed: got 3.*for all settings"),
        ([{}, {}], {}, r"the config as it is, twice"),
        ([{"rounds": 2}, {"rounds": 2}], {}, r"rounds=2, twice"),
        ([{}], {"compare": ("zero_shot",)}, r"compare: got zero_shot.*a list with cachefl"),
        ([{}], {"study.tuning_seeds": 5}, r"study.tuning_seeds: got 5; allowed: 1 to study.seeds, 2"),
        ([{"no.such": 2}], {}, r"study: no.such: got 2"),
    ],
)
def test_what_is_no_study_is_refused(make_bank, settings, changes, told):
    with pytest.raises(UsageError, match=told):
        study_of(config_on(make_bank(), **changes), settings)


def test_without_validation_rows_there_is_nothing_to_choose_by(make_bank, tmp_path):
    config = config_on(make_bank(val_features=None, val_labels=None), **{"data.validation_share": 0.0})
    with pytest.raises(UsageError, match=r"data.validation_share: got 0.0.*mend: --config.data.validation_share=0.1"):
        run_study(study_of(config, [{}]), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_point_that_diverges_is_not_chosen_and_a_row_that_only_diverges_has_no_accuracy(make_bank, tmp_path):
    rows = {"compare": ("cachefl",), "study.seeds": 1, "local.optimizer": "sgd", "local.learning_rate": 1e30}
    study = study_of(config_on(make_bank(), **rows), [{}])
    run_study(study, tmp_path / "study")
    lines = read_lines(tmp_path / "study" / "runs.jsonl")
    assert lines[Key("", "cachefl", 0, 0)]["diverged"]
    assert choose(lines, "", study.rows[0], study) > 0
    alone = study_of(config_on(make_bank(), **rows, **{"study.budget": 1}), [{}])
    run_study(alone, tmp_path / "alone")
    results = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert results["settings"][0]["rows"]["cachefl"]["test_accuracy_mean"] is None
    assert "did not stay finite" in results["headline"][0]
