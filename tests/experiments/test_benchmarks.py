"""The benchmark: everybody's data are the same, what differs is noticed, and bad input is told in one line."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from experiments.benchmarks import checks, engine, entrants, limits, picture, readings, tables, workloads

ROOT = pathlib.Path(__file__).parents[2]
PEERS = ROOT.parent / "shared" / "bench" / "peers"
TINY = ("--classes=30", "--keys=2", "--width=16", "--clients=4", "--samples=6", "--batch=4", "--rounds=2")


def run(name: str, *flags: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", f"experiments.benchmarks.{name}", *flags]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_workload_is_the_one_that_the_peers_make(name, monkeypatch):
    if not (PEERS / "common.py").is_file():
        pytest.skip("the peers' scripts are not part of the product: no shared/bench beside the checkout")
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.delitem(sys.modules, "common", raising=False)
    import common

    sizes, features, labels, keys, _, text = common.make(name)
    monkeypatch.delitem(sys.modules, "common")
    workload, arrays = workloads.WORKLOADS[name], workloads.make(workloads.WORKLOADS[name])
    np.testing.assert_array_equal(arrays.features.reshape(features.shape), features)
    np.testing.assert_array_equal(arrays.labels.reshape(labels.shape), labels)
    np.testing.assert_array_equal(arrays.keys.reshape(keys.shape), keys)
    np.testing.assert_array_equal(arrays.text.T, text)
    assert {array.dtype for array in (arrays.features, arrays.keys, arrays.text)} == {np.dtype(np.float32)}
    assert (common.ALPHA, common.BETA) == (workloads.ALPHA, workloads.BETA)
    ours = (workload.learning_rate, workload.batch, workload.rounds, workload.epochs)
    assert (sizes["lr"], sizes["B"], sizes["rounds"], 1) == ours


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--peers=tenserflow"], ("--peers: got tenserflow", "torch | pfl | flwr | drjax")),
        (["--peers=torch"], ("--python: got nothing for torch", "--python=torch=")),
        (["--python=torch"], ("--python=torch: got nothing",)),
        (["--python=jax=python3"], ("--python: got jax",)),
        (["--python=torch=/none/python"], ("--python=torch: got /none/python",)),
        (["--peers=pfl", f"--python=pfl={sys.executable}"], ("--scripts: got nothing", "bench_pfl.py")),
        (["--peers=torch", f"--python=torch={sys.executable}", "--scripts=tests"], ("--scripts: got tests, without",)),
        (["--workload=medium"], ("workload: got medium",)),
        (["--optimizer=adam"], ("optimizer: got adam",)),
        (["--strategy=magic"], ("strategy: got magic",)),
        (["--rounds=-1"], ("rounds: got -1",)),
        (["--output=README.md/here"], ("--output: got README.md/here",)),
    ],
)
def test_bad_input_is_told_in_one_line(flags, parts):
    done = run("engine", *flags)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in (*parts, "allowed:", "mend:"):
        assert part in done.stderr


def test_a_strategy_that_the_optimizer_lacks_is_told_in_one_line():
    done = run("ours", "--optimizer=adamw", "--strategy=dual", *TINY)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[0].startswith("--strategy: got dual with adamw; allowed:")


def test_a_peer_that_fails_is_told_with_its_last_words():
    command = [sys.executable, "-c", "raise SystemExit('no such module: pfl')"]
    with pytest.raises(UsageError, match=r"pfl: got status 1 \(no such module: pfl\)"):
        entrants.run("pfl", command)


@pytest.mark.quick
@pytest.mark.parametrize(("optimizer", "split"), [("sgd", "dirichlet"), ("adamw", "equal")])
def test_ours_runs_end_to_end(optimizer, split):
    flags = (*TINY, f"--optimizer={optimizer}", f"--split={split}", "--key_sums=2", "--devices=2")
    done = run("ours", "--workload=small", *flags)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["workload"], told["optimizer"], told["devices"], told["rounds"]) == ("small", optimizer, 2, 2)
    assert len(told["seconds"]) == len(told["cpu_seconds"]) == 2
    assert told["min_s"] <= told["median_s"] < told["first_round_s"]
    assert 0 < told["after"]["2"]["key_change"] < told["key_change"]
    assert told["peak_bytes"] > 2**20
    assert (told["largest_client"] == 6) == (split == "equal")


@pytest.mark.quick
@pytest.mark.parametrize("optimizer", workloads.OPTIMIZERS)
def test_ours_trains_what_the_loop_in_torch_trains(optimizer):
    flags = ("--workload=small", f"--optimizer={optimizer}", "--rounds=1")
    ours = run("ours", *flags)
    theirs = run("torch_sequential", *flags, "--threads=1")  # several would wait busily for a core of a busy machine
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    reference, result = json.loads(ours.stdout), json.loads(theirs.stdout)
    checks.check_peer("torch", result, reference, "small", optimizer)
    assert result["key_change"] > 0


def test_keys_that_differ_stop_the_benchmark():
    reference = {"key_sum": 11.92601, "key_change": 8e-4}
    checks.check_peer("torch", reference | {"key_sum": 11.92605}, reference, "small", "sgd")
    for wrong in ({"key_sum": 11.9262}, {"key_sum": float("nan")}, {"key_change": 7.9e-4}):
        with pytest.raises(UsageError, match="PyTorch, client by client on small by sgd"):
            checks.check_peer("torch", reference | wrong, reference, "small", "sgd")
    checks.check_peer("flwr", reference | {"key_sum": 11.9262}, reference, "small", "sgd")
    result = {"rounds": workloads.WORKLOADS["small"].rounds, "key_sum": 11.9262}
    with pytest.raises(UsageError, match="key sum of cachefl_jax on small by sgd"):
        checks.check_ours(result, "small", "sgd")
    checks.check_ours(result | {"rounds": 3}, "small", "sgd")  # of which no figure is known


def test_a_script_is_read_without_being_changed(tmp_path):
    (tmp_path / "common.py").write_text(
        "import numpy as np\nCFG = {'small': {'rounds': 30}}\ndef report(*results):\n    raise AssertionError\n"
    )
    script = tmp_path / "bench_it.py"
    script.write_text(
        "import sys, time\nfrom common import *\nseconds = []\nfor _ in range(CFG[sys.argv[1]]['rounds'] + 1):\n"
        "    start = time.perf_counter(); sum(range(100_000)); seconds.append(time.perf_counter() - start)\n"
        "report('it', sys.argv[1], seconds[0], seconds[1:], np.zeros((160, 512), 'f4'))\n"
    )
    words = [sys.executable, "-m", "experiments.benchmarks.peer", str(script), "small", "4"]
    told = entrants.run("it", words, {"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert (told["tag"], told["rounds"], len(told["seconds"]), told["key_sum"]) == ("it", 4, 4, 0)
    assert all(0 < value < 1 for value in told["cpu_seconds"])
    assert told["key_change"] == pytest.approx(np.sqrt(160), rel=1e-5)  # from keys of length 1 to zero


def test_limits_are_counted_as_they_say():
    job = workloads.Workload(2, 3, 5, clients=7, samples=8, batch=4, learning_rate=0.1, rounds=1, epochs=3)
    assert limits.round_flops(job) == 4 * (7 * 8 * 3) * (2 * 3) * 5
    assert limits.adamw_bytes(job) == (6 * 6 - 4) * (2 * 3 * 5) * 4 * 7
    rates = {"flops_per_s": 1e6, "bytes_per_s": 1e6}
    near = limits.nearness(job, "adamw", 1.0, rates)
    assert near["binds"] == ("memory" if limits.adamw_bytes(job) > limits.round_flops(job) else "arithmetic")
    assert limits.nearness(job, "sgd", 2.0, rates)["flops_share"] == pytest.approx(limits.round_flops(job) / 2e6)


def test_rounds_are_timed_with_the_first_apart():
    seen, calls = [], []
    told = readings.timed_rounds(calls.append, 3, seen.append)
    assert (calls, seen, len(told["seconds"])) == ([1] * 4, [1, 2, 3, 4], 3)
    assert told["min_s"] <= told["median_s"]


def test_rounds_of_one_call_share_its_time_and_calls_end_where_they_must():
    seen, calls = [], []
    told = readings.timed_rounds(calls.append, 12, seen.append, at_once=5, stops=(4, 13))
    assert (calls, seen) == ([1, 3, 5, 4], [1, 4, 9, 13])
    assert len(told["seconds"]) == len(told["cpu_seconds"]) == 12
    assert told["seconds"][0] == told["seconds"][2] > 0


def test_a_peer_is_held_against_ours_of_the_turn_just_before():
    medians = {"ours": [1.0, 1.0, 2.0, 4.0], "torch": [10.0, 20.0], "pfl": [7.0, 28.0]}
    runs = {name: [{"median_s": value} for value in values] for name, values in medians.items()}
    assert [engine.times_ours(runs, name) for name in runs] == [1.0, 10.0, 7.0]


def test_the_tables_and_the_picture_hold_everybody(tmp_path):
    row = {"rounds": 4, "first_round_s": 1.0, "min_s": 0.1, "median_s": 0.2, "clients_per_s": 500.0}
    row |= {"cpu_s_per_round": None, "peak_bytes": 2**20, "times_ours_by_median": 2.5, "times_ours_by_min": 2.0}
    near = limits.nearness(workloads.WORKLOADS["small"], "adamw", 0.2, {"flops_per_s": 4e11, "bytes_per_s": 4e10})
    runs = {"ours": [{"median_s": 0.2}], "torch": [{"median_s": 0.2}, {"median_s": 0.9}]}
    job = {"workload": "small", "optimizer": "adamw", "entrants": {"ours": row, "torch": row}, "limits": near}
    machine = {"cores": 2, "load_average_at_start": (0.1, 0.2, 0.3)}
    results = {"machine": machine, "jobs": [job | {"runs": runs}]}
    text = tables.engine_tables(results)
    for part in ("cachefl_jax", "PyTorch, client by client", "200 ms", "2.50", near["binds"], "unsteady: PyTorch"):
        assert part in text
    picture.write(tmp_path / "engine.png", results)
    assert (tmp_path / "engine.png").read_bytes().startswith(b"\x89PNG")
