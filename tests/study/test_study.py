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
from cachefl_jax.config import changed
from cachefl_jax.errors import UsageError
from cachefl_jax.study import run
from cachefl_jax.study.folder import Key, claim, key_of, packed, read_lines, unpacked
from cachefl_jax.study.page import FILES
from cachefl_jax.study.plan import study_of
from cachefl_jax.study.results import choose
from cachefl_jax.study.run import run_study
from experiments.configs import feature_bank

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
            assert line["correct"] is None
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
        if key.row == "cachefl@alone":  # several models are scored
            assert line["correct"] is None
        else:
            assert unpacked(line["correct"]).mean() == pytest.approx(line["entry"]["test_accuracy"])
    mixed = np.asarray([True, False, False, True, True, False, True, False, True])
    assert (unpacked(packed(mixed)) == mixed).all()


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
