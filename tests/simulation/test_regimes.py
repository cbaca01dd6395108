"""Two methods in one run, one of them a user's, under every regime: each row is what its method gives by itself."""

import json
import pathlib
import shutil
import weakref

import jax
import pytest

from cachefl_jax.config import default
from cachefl_jax.report import page
from cachefl_jax.report.workdir import read_runs
from cachefl_jax.simulation import local_only, rounds
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.storage.run_files import file_name

pytestmark = pytest.mark.quick
PROBE = f"{pathlib.Path(__file__).parents[1] / 'methods' / 'linear_probe.py'}:probe"
REGIMES = ("", "@alone", "@centralized", "@round_0")
COMPARE = ("zero_shot", *(f"{name}{regime}" for regime in REGIMES for name in ("cachefl", PROBE)))
ROUNDS = 6


def config_for(bank: pathlib.Path, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 3
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.eval_every = 2, ROUNDS, 2, 3
    config.engine.strategy, config.engine.devices, config.local.learning_rate = "scan", 1, 0.05
    config.compare = COMPARE
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def bank(tmp_path_factory, make_bank_in):
    return make_bank_in(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def finished(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_and_evaluate(config_for(bank), folder)
    return folder


def methods_of(folder: pathlib.Path) -> dict[str, dict]:
    """The entries without their times."""
    entries = json.loads((folder / "summary.json").read_text())["methods"]
    return {name: {**entry, "seconds_per_round": None} for name, entry in entries.items()}


def lines_of(file: pathlib.Path) -> list[dict]:
    return [{**json.loads(line), "seconds": None} for line in file.read_text().splitlines()]


@pytest.mark.parametrize("method", ["cachefl", PROBE])
def test_every_row_is_to_the_bit_what_the_method_gives_as_the_main_one(bank, finished, tmp_path, method):
    train_and_evaluate(config_for(bank, method=method, compare=()), tmp_path / "run")
    own, rows = methods_of(tmp_path / "run"), methods_of(finished)
    main = "cachefl" if method == "cachefl" else "probe"
    pairs = {"zero_shot": "zero_shot", main: main}
    pairs |= {"local_only": f"{main}@alone", "centralized": f"{main}@centralized", "cache_init": f"{main}@round_0"}
    assert set(own) == set(pairs)
    for name, row in pairs.items():
        assert rows[row] | {"label": None} == own[name] | {"label": None}
    folder = finished if method == "cachefl" else finished / "compared" / "probe"
    for file in ("cache.safetensors" if method == "cachefl" else "model.safetensors",):
        assert (folder / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    assert lines_of(folder / "metrics.jsonl") == lines_of(tmp_path / "run" / "metrics.jsonl")
    regimes = ("cache_init", main, "local_only", "centralized")
    assert len({own[name]["test_cross_entropy"] for name in regimes}) == 4  # or equal rows would say little


def test_a_row_says_what_it_is_and_the_folder_has_what_each_method_leaves(finished):
    told = {name: (entry["label"], entry["regime"]) for name, entry in methods_of(finished).items()}
    assert told == {
        "zero_shot": ("zero-shot CLIP", "zero_shot"),
        "cachefl": ("CacheFL", "federated"),
        "probe": ("linear probe", "federated"),
        "cachefl@alone": ("CacheFL, each client alone", "alone"),
        "probe@alone": ("linear probe, each client alone", "alone"),
        "cachefl@centralized": ("CacheFL, centralized", "centralized"),
        "probe@centralized": ("linear probe, centralized", "centralized"),
        "cachefl@round_0": ("cache at round 0", "round_0"),
        "probe@round_0": ("linear probe at round 0", "round_0"),
    }
    own = {"metrics.jsonl", "engine.json", "checkpoints"}
    assert {path.name for path in (finished / "compared" / "probe").iterdir()} == own | {"model.safetensors"}
    assert {path.name for path in (finished / "compared").iterdir()} == {"probe"}
    assert {path.name for path in finished.iterdir()} == own | {
        "config.json", "partition.json", "partition.npz", "summary.json", "cache_init.safetensors", "report.html",
        "cache.safetensors", "baselines.json", "inputs.json", "compared",
    }  # fmt: skip


def test_the_report_draws_each_federated_methods_curve_and_needs_no_methods_file(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["compare"] = [word.replace(PROBE, "/gone/linear_probe.py:probe") for word in config["compare"]]
    (folder / "config.json").write_text(json.dumps(config))
    text = page.render(read_runs([folder]))
    for label in ("CacheFL", "linear probe"):
        assert f"{label}: from " in text  # the description of its curve
    for label in ("linear probe, each client alone", "CacheFL, centralized", "linear probe at round 0"):
        assert f"; {label}: " in text
        assert f"{label}: from " not in text


class Killed(BaseException):
    """Nothing handles it."""


@pytest.fixture
def work(monkeypatch):
    """What is trained: (method, round it goes on from) of rounds, and the rows whose clients never aggregate. Before
    the rounds that `kill_at` names, the process is killed."""

    class Work(list):
        kill_at = None

    work, some, train = Work(), rounds.some_rounds, local_only.LocalOnly.train_parts

    def some_rounds(config, learner, engine, state, number, stop):
        if work.kill_at == (learner.method.label, number):
            raise Killed
        work.append((learner.method.label, number))
        return some(config, learner, engine, state, number, stop)

    def train_parts(self):
        work.append(self.row.name)
        train(self)

    monkeypatch.setattr(rounds, "some_rounds", some_rounds)
    monkeypatch.setattr(local_only.LocalOnly, "train_parts", train_parts)
    return work


def test_a_run_killed_within_its_second_methods_rounds_goes_on_there_and_redoes_nothing(bank, finished, tmp_path, work):
    work.kill_at = ("linear probe", 4)
    with pytest.raises(Killed):
        train_and_evaluate(config_for(bank), tmp_path / "run")
    assert {each for each in work if isinstance(each, str)} == {
        f"{name}@{regime}" for name in ("cachefl", "probe") for regime in ("alone", "centralized")
    }
    assert not (tmp_path / "run" / "summary.json").exists()
    work.clear()
    work.kill_at = None
    train_and_evaluate(config_for(bank), tmp_path / "run")
    assert work
    assert {each[0] for each in work} == {"linear probe"}
    assert min(number for _, number in work) in (2, 4)  # its last checkpoint
    assert methods_of(tmp_path / "run") == methods_of(finished)
    for name in ("metrics.jsonl", "compared/probe/metrics.jsonl"):
        assert lines_of(tmp_path / "run" / name) == lines_of(finished / name)
    for name in ("cache.safetensors", "compared/probe/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_is_done_until_a_compared_method_lacks_a_file_or_gets_more_rounds(bank, finished, tmp_path, work):
    run = shutil.copytree(finished, tmp_path / "run")
    train_and_evaluate(config_for(bank), run)
    (run / "compared" / "probe" / "model.safetensors").unlink()
    train_and_evaluate(config_for(bank), run)
    assert not work
    model = (run / "compared" / "probe" / "model.safetensors").read_bytes()
    assert model == (finished / "compared" / "probe" / "model.safetensors").read_bytes()
    train_and_evaluate(config_for(bank, rounds=ROUNDS + 2), run)
    assert {each for each in work if isinstance(each, tuple)} >= {("CacheFL", ROUNDS), ("linear probe", ROUNDS)}
    assert min(each[1] for each in work if isinstance(each, tuple)) == ROUNDS
    train_and_evaluate(config_for(bank, rounds=ROUNDS + 2), tmp_path / "once")
    assert methods_of(run) == methods_of(tmp_path / "once")


def test_one_engines_arrays_are_on_the_devices_at_a_time(bank, tmp_path, monkeypatch):
    filled, real = [], rounds.start_engine

    def start_engine(config, learner, file):
        assert not [name for name, leaf in filled if leaf() is not None]
        engine = real(config, learner, file)
        filled.extend((learner.name, weakref.ref(leaf)) for leaf in jax.tree.leaves(engine.problem.data))
        return engine

    monkeypatch.setattr(rounds, "start_engine", start_engine)
    train_and_evaluate(config_for(bank, rounds=2), tmp_path / "run")
    assert {name for name, _ in filled} == {"cachefl", PROBE}


def test_names_of_folders_are_safe_and_never_shared():
    assert file_name("probe@alone") == "probe@alone"
    names = ["probe", "Probe", "a/b.py:probe", "a_b.py:probe", "../probe", "x" * 300 + "é", "x" * 301 + "é"]
    found = [file_name(name) for name in names]
    assert len({name.lower() for name in found}) == len(names)
    assert all(len(name) < 100 and "/" not in name and not name.startswith(".") for name in found)
