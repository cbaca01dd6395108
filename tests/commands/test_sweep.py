"""A sweep: its points come from the config, are checked beforehand, and are ranked by validation accuracy alone."""

import hashlib
import json
import shlex

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.commands.sweep import config_words, configs, points
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.storage.locks import FOLDER_LOCK, folder_lock
from experiments.configs import feature_bank

CONFIG = """
from experiments.configs import feature_bank

def get_config(clients):
    config = feature_bank.get_config()
    config.data.path = {path!r}
    config.partition.clients, config.rounds, config.eval_every = int(clients), 3, 2
    return config

def sweep(add):
    for alpha in (1.0, 30.0):
        for seed in (0, 1):
            add(**{{"cache.alpha": alpha, "seed": seed, "methods": ("cachefl",)}})
    add(**{{"partition.concentration": 5.0, "rounds": 5, "local.weight_decay": 0.3, "server.learning_rate": 0.5}})
    for rate in (0.01, 0.1):
        add(**{{"local.optimizer": "sgd", "local.learning_rate": rate}})
    add(**{{"local.optimizer": "sgd", "local.learning_rate": 1e30}})
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory, make_bank_in, start):
    """(the sweep's folder, its lines, the command's words): two programs, one of them with a point that diverges."""
    folder = tmp_path_factory.mktemp("sweep")
    file, workdir = folder / "mine.py", folder / "sweep"
    file.write_text(CONFIG.format(path=str(make_bank_in(folder))))
    words = [f"--config={file}:4", f"--workdir={workdir}"]
    done = start(*words, command="sweep")
    assert done.returncode == 0, done.stderr
    assert "validation  runs  point" in done.stdout
    told = "a sweep trains cachefl; local_only, centralized: by a run, or tuned alike by a study"
    assert told in done.stderr.splitlines()
    return workdir, read_lines(workdir), words


def read_lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_every_point_has_its_line_and_the_same_command_again_does_nothing(swept, start):
    workdir, lines, words = swept
    assert [line["point"] for line in lines] == list(range(8))
    assert [line["overrides"].get("cache.alpha") for line in lines[:5]] == [1.0, 1.0, 30.0, 30.0, None]
    assert len({line["keys_sha256"] for line in lines}) == 8
    # Points 0 to 3 begin with two alphas by two seeds, and CLIP's texts are the same for all.
    starts = [line["methods"]["cache_init"]["test_cross_entropy"] for line in lines[:4]]
    assert starts[0] == starts[1] != starts[2] == starts[3]
    assert len({line["methods"]["zero_shot"]["test_cross_entropy"] for line in lines}) == 1
    assert [line["curve"]["round"] for line in lines[3:5]] == [[2, 3], [2, 4, 5]]
    before = [(workdir / name).stat().st_mtime_ns for name in ("results.jsonl", "report.html")]
    done = start(*words, command="sweep")
    assert done.returncode == 0, done.stderr
    assert [(workdir / name).stat().st_mtime_ns for name in ("results.jsonl", "report.html")] == before
    assert done.stdout.endswith(f"report: {workdir / 'report.html'}\n")


def test_a_line_that_is_missing_is_made_again_and_is_the_same(swept, start):
    workdir, lines, words = swept
    text = (workdir / "results.jsonl").read_text()
    (workdir / "results.jsonl").write_text("".join(f"{line}\n" for line in text.splitlines()[:3]))
    assert start(*words, command="sweep").returncode == 0
    assert [line["keys_sha256"] for line in read_lines(workdir)] == [line["keys_sha256"] for line in lines]


@pytest.mark.parametrize("point", [1, 4, 6])
def test_a_point_run_alone_by_its_own_command_ends_in_the_same_bits(swept, start, point):
    workdir, lines, _ = swept
    *command, module = shlex.split(lines[point]["command"])[:3]
    assert (command, module) == (["python", "-m"], "experiments.run")
    done = start(*shlex.split(lines[point]["command"])[3:])
    assert done.returncode == 0, done.stderr
    folder = workdir / f"{point:03d}"
    keys = load_file(folder / "cache.safetensors")["keys"]
    assert hashlib.sha256(keys.tobytes()).hexdigest() == lines[point]["keys_sha256"]
    alone, told = json.loads((folder / "summary.json").read_text())["methods"], lines[point]["methods"]
    assert "cachefl" in alone.keys() & told.keys()
    for name in alone.keys() & told.keys():
        for field in ("test_accuracy", "validation_accuracy", "total_bytes", "rounds"):
            assert alone[name][field] == told[name][field]


def test_a_point_that_diverges_says_so_and_stops_no_other(swept):
    _, lines, _ = swept
    assert [line["diverged"] for line in lines] == [False] * 7 + [True]
    assert lines[7]["methods"]["cachefl"]["validation_accuracy"] is None


def test_the_config_is_found_in_any_spelling():
    words = ["-config", "a b.py", "--config.rounds=3", "--workdir=x", "--config.seed", "1", "--side_by_side"]
    assert config_words(words) == ["--config=a b.py", "--config.rounds=3", "--config.seed=1"]


def test_what_is_refused_leaves_nothing_behind(swept, start, tmp_path):
    config, _ = swept[2]
    for extra, told in (
        (["--config.data.path=none.npz", f"--workdir={tmp_path / 'new'}"], "none.npz"),
        ([f"--workdir={config.removeprefix('--config=').removesuffix(':4')}"], "this is a file"),
    ):
        done = start(config, *extra, command="sweep")
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
    assert not (tmp_path / "new").exists()


def test_another_sweep_is_refused(swept, start):
    _, _, words = swept
    done = start(*words, "--config.rounds=7", command="sweep")
    assert done.returncode == 2
    assert "with another sweep" in done.stderr


def test_a_sweep_without_validation_rows_is_refused_before_it_trains(make_bank, tmp_path):
    base = feature_bank.get_config()
    base.data.path, base.data.validation_share = str(make_bank(val_features=None, val_labels=None)), 0.0
    overrides = [{"cache.alpha": 1.0}, {"cache.alpha": 3.0}]
    with pytest.raises(UsageError, match=r"data.validation_share: got 0.0.*above 0.*mend: --config.data.validation"):
        run_points(list(configs(base, overrides)), overrides, tmp_path / "sweep", [], False)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.quick
def test_a_finished_sweep_is_not_done_on_other_data(make_bank, tmp_path, capsys):
    base = feature_bank.get_config()
    bank = make_bank()
    base.data.path, base.partition.clients, base.rounds, base.engine.devices = str(bank), 3, 0, 1
    overrides = [{"cache.alpha": 1.0}, {"cache.alpha": 3.0}]
    arguments = list(configs(base, overrides)), overrides, tmp_path / "sweep", [], False
    lines = run_points(*arguments)
    with np.load(bank) as arrays:
        same = dict(arrays)
    np.savez(bank, **same)
    assert run_points(*arguments) == lines  # other times, the same content
    np.savez(bank, **same | {"test_features": same["test_features"][::-1]})
    with pytest.raises(UsageError, match=r"--workdir: got .*sweep with a run on other data \(test rows \w+, now \w+\)"):
        run_points(*arguments)
    bank.unlink()
    assert run_points(*arguments) == lines
    assert "what data.path names is not there any more" in capsys.readouterr().err


@pytest.mark.quick
@pytest.mark.parametrize("left", [2, 1])
def test_a_given_partition_counts_as_data_whichever_point_names_it(make_bank, tmp_path, left):
    base, given = feature_bank.get_config(), tmp_path / "given.npz"
    base.data.path, base.partition.clients, base.rounds, base.engine.devices = str(make_bank()), 2, 0, 1
    np.savez(given, offsets=[0, 30, 60], indices=np.arange(60))
    overrides = [{"cache.alpha": 1.0}, {"partition.name": "given", "partition.path": str(given)}]
    arguments = list(configs(base, overrides)), overrides, tmp_path / "sweep", [], False
    run_points(*arguments)
    results = tmp_path / "sweep" / "results.jsonl"
    if left == 1:  # the first point is to be made again
        results.write_text(results.read_text().splitlines(keepends=True)[1])
    np.savez(given, offsets=[0, 20, 60], indices=np.arange(60))
    with pytest.raises(UsageError, match=r"with a run on other data \(partition \w+, now \w+\)"):
        run_points(*arguments)


@pytest.mark.quick
def test_one_sweep_at_a_time_and_on_the_data_it_began_with(make_bank, tmp_path):
    base = feature_bank.get_config()
    bank = make_bank()
    base.data.path, base.partition.clients, base.rounds, base.engine.devices = str(bank), 3, 1, 1
    overrides = [{"cache.alpha": 1.0}, {"cache.alpha": 3.0}]
    arguments = list(configs(base, overrides)), overrides, tmp_path / "sweep", [], False
    with folder_lock(tmp_path / "sweep"):
        with pytest.raises(UsageError, match=r"--workdir: got .*sweep \(in use by process \d+ on"):
            run_points(*arguments)
        assert [entry.name for entry in (tmp_path / "sweep").iterdir()] == [FOLDER_LOCK]
    first = run_points(*arguments)
    results = tmp_path / "sweep" / "results.jsonl"
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    (tmp_path / "sweep" / ".results.jsonl.abcd1234").touch()  # as an older version's killed sweep left it
    assert [row["keys_sha256"] for row in run_points(*arguments)] == [row["keys_sha256"] for row in first]
    assert sorted(entry.name for entry in (tmp_path / "sweep").iterdir()) == ["results.jsonl", "sweep.json"]
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    with np.load(bank) as arrays:
        changed = {name: array[::-1] if name == "test_features" else array for name, array in arrays.items()}
    np.savez(bank, **changed)
    with pytest.raises(UsageError, match=r"--workdir: got .*sweep with a run on other data \(test rows \w+, now \w+\)"):
        run_points(*arguments)


def test_a_file_without_a_sweep_or_with_an_empty_one_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    for text, match in (("", r"a config file with sweep\(add\)"), ("def sweep(add):\n    pass\n", "added nothing")):
        file.write_text(text)
        with pytest.raises(UsageError, match=match):
            points(str(file))


def test_unknown_fields_and_wrong_values_are_refused_before_a_point_runs():
    from experiments.configs.digits import get_config

    assert [point.rounds for point in configs(get_config(), [{"rounds": 1}, {"rounds": 2}])] == [1, 2]
    with pytest.raises(UsageError, match=r"sweep: cache.gamma: got 1"):
        list(configs(get_config(), [{"cache.gamma": 1}]))
    with pytest.raises(UsageError, match=r"rounds: got -1"):
        list(configs(get_config(), [{"rounds": 1}, {"rounds": -1}]))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def sweep(add):\n    1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def sweep(add):\n    add(5)\n", "TypeError"),
        ("def sweep(add):\n    exit(3)\n", "SystemExit: 3"),
        ("def sweep():\n    pass\n", "TypeError"),
        ("sweep = 5\n", "TypeError"),
    ],
)
def test_a_sweep_that_does_not_run_is_told_in_one_line(tmp_path, text, told):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=rf"--config: got .*mine.py \(sweep\(add\): .*{told}.*allowed: .*runs"):
        points(str(file))
