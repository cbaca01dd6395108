"""Runs whose sites have profiles: the same clock after a stop, what a run tells of it, and what is refused."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick
SITES = "uplink,downlink,latency,flops,memory,hours\n1e5,1e6,0.05,1e6,,\n2e5,1e6,0.01,4e6,,\n5e4,5e5,0.1,2e5,,\n"


@pytest.fixture(scope="module")
def bank(tmp_path_factory, make_bank_in):
    return make_bank_in(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    path = tmp_path_factory.mktemp("profiles") / "sites.csv"
    path.write_text(SITES)
    return path


def config_for(bank: pathlib.Path, sites: pathlib.Path | str, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 3
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.eval_every = 2, 4, 2, 2
    config.engine.strategy, config.engine.devices, config.compare = "scan", 1, ("cachefl",)
    config.local.batch_size, config.participation.profiles = 4, str(sites)
    return changed(config, changes)


def lines(run: pathlib.Path) -> list[dict]:
    return [{**json.loads(line), "seconds": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]


KINDS = {
    "waiting": {},
    "deadline": {"participation.deadline": 0.8, "participation.drop_out_late": 0.2},
    "asynchronous": {"participation.buffer": 2, "rounds": 6},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_end(bank, sites, tmp_path, kind):
    """Stopped after its second round, of which it has a checkpoint."""
    config, once, twice = config_for(bank, sites, **KINDS[kind]), tmp_path / "once", tmp_path / "twice"
    told = train_and_evaluate(config, once)["methods"]["cachefl"]
    shutil.copytree(once, twice)
    for number in range(4, config.rounds + 1, 2):
        shutil.rmtree(twice / "checkpoints" / str(number))
    for name in ("summary.json", "report.html", "cache.safetensors", "sites.json"):
        (twice / name).unlink()
    again = train_and_evaluate(config, twice)["methods"]["cachefl"]
    assert lines(once) == lines(twice)
    assert told["sites"] == again["sites"]
    for name in ("cache.safetensors", "sites.json"):
        assert (once / name).read_bytes() == (twice / name).read_bytes()
    seconds = [line["virtual_seconds"] for line in lines(once)]
    assert seconds[0] == 0
    assert (np.diff(seconds) > 0).all()
    assert told["sites"]["virtual_hours"] == seconds[-1] / 3600
    each = json.loads((once / "sites.json").read_text())
    assert sum(each["updates"]) == told["sites"]["updates"] == sum(line["cohort"] for line in lines(once))


def test_asynchronous_is_synchronous_where_all_sites_are_equal_and_the_buffer_is_the_cohort(bank, tmp_path):
    """To the bit; on another clock every number but the seconds is as without one."""
    path = tmp_path / "equal.json"
    path.write_text('{"uplink": 1e5, "downlink": 1e6, "latency": 0.1, "flops": 1e30}')
    runs = {}
    for buffer in (0, 2):
        config = config_for(bank, path, cohort=2, **{"participation.buffer": buffer})
        train_and_evaluate(config, tmp_path / str(buffer))
        runs[buffer] = lines(tmp_path / str(buffer))
    assert runs[0] == runs[2]
    ours, theirs = ((tmp_path / name / "cache.safetensors").read_bytes() for name in ("0", "2"))
    assert ours == theirs


def test_the_clock_counts_the_bytes_that_travel(bank, sites, tmp_path):
    """A lost site has been sent the params; updates in half the bytes come sooner by just that."""
    config = config_for(bank, sites, **{"participation.drop_out": 0.4, "rounds": 6})
    told = train_and_evaluate(config, tmp_path / "whole")["methods"]["cachefl"]
    down, up = (told[f"{way}link_bytes_per_client_round"] for way in ("down", "up"))
    for line in lines(tmp_path / "whole")[1:]:
        assert line["bytes_down"] == 3 * down
        assert line["bytes_up"] == line["cohort"] * up
    lost = sum(3 - line["cohort"] for line in lines(tmp_path / "whole")[1:])
    assert lost > 0
    assert told["sites"]["updates_lost"] == lost / 18
    slowest = config_for(bank, sites, **{"rounds": 1})
    halved = changed(slowest, {"updates.transforms": ("float16",)})
    seconds = []
    for number, each in enumerate((slowest, halved)):
        train_and_evaluate(each, tmp_path / str(number))
        seconds.append(lines(tmp_path / str(number))[-1]["virtual_seconds"])
    assert seconds[0] - seconds[1] == pytest.approx(8 * up / 2 / 5e4, rel=1e-9)  # the third site's uplink


def test_drop_outs_without_profiles_have_no_clock(bank, tmp_path):
    config = config_for(bank, "", **{"participation.drop_out": 0.4})
    told = train_and_evaluate(config, tmp_path / "run")["methods"]["cachefl"]["sites"]
    assert told.keys() == {"updates", "updates_lost"}
    assert "virtual_seconds" not in lines(tmp_path / "run")[-1]


REFUSED = [
    ({"participation.profiles": "moon"}, r"participation.profiles: got moon; allowed: hospital, office, phone, a .csv"),
    ({"participation.profiles": "", "participation.deadline": 1.0}, r"participation.deadline: got 1.0; allowed: 0"),
    ({"participation.drop_out": 0.6, "participation.drop_out_late": 0.4}, r"participation.drop_out_late: got 0.4,"),
    ({"participation.name": "poisson", "cohort": 2}, r"participation.name: got poisson; allowed: cohort or full"),
    ({"participation.over_selection": 0.5}, r"participation.over_selection: got 0.5; allowed: 0 where all"),
    ({"participation.buffer": 4}, r"participation.buffer: got 4; allowed: 0 to partition.clients, 3"),
    ({"participation.buffer": 2, "participation.deadline": 1.0}, r"participation.deadline: got 1.0; allowed: 0"),
    ({"participation.buffer": 2, "engine.strategy": "dual", "local.optimizer": "sgd"}, r"engine.strategy: got dual"),
    ({"participation.buffer": 2, "local.algorithm": "scaffold", "local.optimizer": "sgd"}, r"algorithm: got scaffold"),
    ({"participation.buffer": 2, "aggregation.name": "median"}, r"aggregation.name: got median; allowed: mean"),
    ({"participation.buffer": 2, "method": "ridge", "compare": ("ridge",)}, r"participation.buffer: got 2; allowed: 0"),
    ({"participation.deadline": 1.0, "method": "ridge", "compare": ("ridge",)}, r"participation.late: got partial"),
    ({"aggregation.name": "secure_mean"}, r"aggregation.name: got secure_mean; allowed: no secure sum with profiles"),
    ({"participation.deadline": 1.0, "engine.strategy": "dual", "local.optimizer": "sgd"}, r"strategy: got dual"),
    ({"privacy.mechanism": "local", "aggregation.name": "uniform", "privacy.noise_multiplier": 1.0},
     r"privacy.mechanism: got local; allowed: none with profiles"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), REFUSED)
def test_what_makes_no_sense_is_refused(bank, sites, tmp_path, changes, told):
    with pytest.raises(UsageError, match=told):
        train_and_evaluate(config_for(bank, sites, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sites_without_the_memory_are_refused(bank, tmp_path):
    path = tmp_path / "small.csv"
    path.write_text("uplink,downlink,latency,flops,memory\n1,1,0,1,1e9\n1,1,0,1,100\n")
    with pytest.raises(UsageError, match=r"1 sites with too little memory, the first of them client 1 with 100 bytes"):
        train_and_evaluate(config_for(bank, path), tmp_path / "run")


def test_an_asynchronous_run_is_evaluated_and_goes_on_only_as_it_began(bank, sites, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(SITES)
    config = config_for(bank, path, **{"participation.buffer": 2})
    train_and_evaluate(config, tmp_path / "run")
    assert evaluate(config, tmp_path / "run", 2)["test_accuracy"] == lines(tmp_path / "run")[2]["test_accuracy"]
    config.rounds = 6
    with pytest.raises(UsageError, match=r"rounds: got 6; allowed: 4: which params the server of the run"):
        train_and_evaluate(config, tmp_path / "run")
    config.rounds = 4
    path.write_text(SITES.replace("2e5", "3e5"))
    with pytest.raises(UsageError, match=r"on other data \(site profiles"):
        train_and_evaluate(config, tmp_path / "run")


def test_points_of_a_sweep_follow_the_clock_of_their_own_profiles(bank, tmp_path):
    """As runs by themselves do, to the bit; a point whose profiles have changed since is not taken as done."""
    paths = [tmp_path / "slow.csv", tmp_path / "fast.csv"]
    for path, flops in zip(paths, ("4e3", "1e7"), strict=True):
        path.write_text(f"uplink,downlink,latency,flops\n1e6,1e6,0,{flops}\n")
    base = config_for(bank, paths[0], **{"data.validation_share": 0.2, "participation.deadline": 2.0})
    changes = [{"participation.profiles": str(path)} for path in paths]
    configs = [resolve(changed(base, each)) for each in changes]
    lines_of = run_points(configs, changes, tmp_path / "sweep", ["run"], side_by_side=False)
    for number, (config, line) in enumerate(zip(configs, lines_of, strict=True)):
        told = train_and_evaluate(config, tmp_path / str(number))["methods"]["cachefl"]
        entry = line["methods"]["cachefl"]
        assert (entry["sites"], entry["total_bytes"]) == (told["sites"], told["total_bytes"])
        assert line["curve"]["hours"][-1] == told["sites"]["virtual_hours"]
        assert entry["test_accuracy"] == told["test_accuracy"]
    assert lines_of[0]["keys_sha256"] != lines_of[1]["keys_sha256"]
    paths[1].write_text(paths[1].read_text().replace("1e7", "2e7"))
    with pytest.raises(UsageError, match=r"on other data \(site profiles"):
        run_points(configs, changes, tmp_path / "sweep", ["run"], side_by_side=False)
