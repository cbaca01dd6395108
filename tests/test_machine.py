"""Cores and memory are those that the process may use, by either version of control groups."""

import os

import pytest

from cachefl_jax import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def write(**files: str) -> None:
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("350000 100000", 3), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_a_quota_bounds_the_cores(groups, text, expected):
    groups(cpu_dot_max=text)
    assert machine.cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 64), ("200000", 2)])
def test_so_does_one_of_the_first_version(groups, quota, expected):
    groups(cpu__cpu_dot_cfs_quota_us=quota, cpu__cpu_dot_cfs_period_us="100000")
    assert machine.cores() == expected


def test_without_control_groups_the_affinity_counts(groups):
    assert machine.cores() == 64


@pytest.mark.parametrize(
    "names", [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")]
)
def test_a_limit_bounds_the_memory(groups, names):
    whole = machine.free_memory()
    assert 2**24 < whole < 2**46
    limit, used = (name.replace("/", "__").replace(".", "_dot_") for name in names)
    groups(**{limit: "3000000", used: "1000000"})
    assert machine.free_memory() == 2_000_000
    groups(**{limit: "max" if "max" in names[0] else str(2**63 - 4096)})
    assert machine.free_memory() == pytest.approx(whole, rel=0.2)
