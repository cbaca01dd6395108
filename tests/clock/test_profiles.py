"""Profiles of sites: tables, distributions and presets, and what of them is refused."""

import json

import numpy as np
import pytest

from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.clock.profiles import HOURS, hours_of, profiles_of
from cachefl_jax.errors import UsageError

HEADER = "uplink,downlink,latency,flops,memory,hours\n"


def test_rows_of_a_table_repeat(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text(f"{HEADER}1e6,2e6,0.1,1e9,,\n3e6,4e6,0,2e9,5e8,22-6\n")
    sites = profiles_of(str(path), 5, 0)
    assert sites.uplink.tolist() == [1e6, 3e6, 1e6, 3e6, 1e6]
    assert sites.downlink.tolist() == [2e6, 4e6, 2e6, 4e6, 2e6]
    assert sites.latency.tolist() == [0.1, 0, 0.1, 0, 0.1]
    assert sites.flops.tolist() == [1e9, 2e9, 1e9, 2e9, 1e9]
    assert sites.memory.tolist() == [np.inf, 5e8, np.inf, 5e8, np.inf]
    assert sites.hours.shape == (5, HOURS)
    assert sites.hours[0].all()
    assert np.flatnonzero(sites.hours[1]).tolist() == [0, 1, 2, 3, 4, 5, 22, 23]


def test_a_list_in_json_is_a_table_and_an_object_a_distribution(tmp_path):
    path = tmp_path / "sites.json"
    row = {"uplink": 1e6, "downlink": 2e6, "latency": 0.0, "flops": 1e9}
    path.write_text(json.dumps([row]))
    assert profiles_of(str(path), 2, 0).flops.tolist() == [1e9, 1e9]
    path.write_text(json.dumps(row | {"flops": {"median": 1e9, "spread": 0.5}, "hours": "9-12"}))
    sites = profiles_of(str(path), 20_000, 3)
    assert (sites.uplink == 1e6).all()
    logs = np.log(sites.flops)
    assert abs(np.median(logs) - np.log(1e9)) < 0.02  # five standard errors
    assert abs(logs.std() - 0.5) < 0.015
    assert np.flatnonzero(sites.hours[7]).tolist() == [9, 10, 11]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_same_sites_for_the_same_seed(name):
    once, again, other = (profiles_of(name, 50, seed) for seed in (4, 4, 5))
    for ours, theirs in zip(once, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (once.uplink != other.uplink).all()
    assert min(numbers.min() for numbers in once[:5]) > 0


@pytest.mark.parametrize(("text", "hours"), [
    ("", list(range(24))), ("9-12;14-15", [9, 10, 11, 14]), ("23-1", [0, 23]), ("0-24", list(range(24))),
])  # fmt: skip
def test_hours_of_a_day(text, hours):
    assert np.flatnonzero(hours_of(text, "here")).tolist() == hours


@pytest.mark.parametrize(("content", "told"), [
    (f"{HEADER}", r"without rows"),
    (f"{HEADER}1,2,,4,,\n", r"row 1 without latency"),
    (f"{HEADER}1,2,0,4,,\n0,2,0,4,,\n", r"row 2, uplink = '0'; allowed: a number, above 0"),
    (f"{HEADER}1,2,-1,4,,\n", r"latency = '-1'"),
    (f"{HEADER}1,2,0,nan,,\n", r"flops = 'nan'"),
    (f"{HEADER}1,2,0,4,many,\n", r"memory = 'many'"),
    (f"{HEADER}1,2,0,4,,25-3\n", r"hours = '25-3'"),
    (f"{HEADER}1,2,0,4,,5-5\n", r"hours = '5-5'"),
    ("uplink,downlink,latency,flops,speed\n1,2,0,4,5\n", r"with speed"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path, content, told):
    path = tmp_path / "sites.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=told):
        profiles_of(str(path), 3, 0)


@pytest.mark.parametrize(("content", "told"), [
    ("{", r"cannot be read"),
    ("3", r"without rows"),
    ('{"uplink": 1, "downlink": 2, "latency": 0}', r"the distributions without flops"),
    ('{"uplink": {"median": 1}, "downlink": 2, "latency": 0, "flops": 1}', r"uplink = .*allowed: a number, or"),
    ('{"uplink": true, "downlink": 2, "latency": 0, "flops": 1}', r"uplink = True"),
    ('[{"uplink": 1, "downlink": 2, "latency": 0, "flops": 1}, 4]', r"row 2 without uplink"),
])  # fmt: skip
def test_json_that_tells_of_no_sites_is_refused(tmp_path, content, told):
    path = tmp_path / "sites.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=told):
        profiles_of(str(path), 3, 0)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"participation.profiles: got .*no.csv; allowed: hospital, office, phone, or"):
        profiles_of(str(tmp_path / "no.csv"), 3, 0)
