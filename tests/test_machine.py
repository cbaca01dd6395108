"""Cores and memory are those that the process may use, by either version of control groups."""

import os
import pathlib

import pytest

from cachefl_jax import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def write(**files: str) -> None:
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
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


def test_threads_are_counted_by_the_cores_that_the_process_may_use():
    root = pathlib.Path(machine.__file__).parents[1]
    files = [file for folder in ("cachefl_jax", "experiments") for file in (root / folder).rglob("*.py")]
    asking = [file.name for file in files if "cpu_count(" in file.read_text()]
    assert asking == ["machine.py"]


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


OWN = {"second": "0::/slice/job", "first": "5:cpu,cpuacct:/slice/job\n4:memory:/slice/job\n0::/"}
NAMES = {
    "second": ("", "memory.max", "memory.current", "inactive_file"),
    "first": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.mark.parametrize("version", OWN)
def test_cached_files_in_a_group_are_free(write_group, version):
    """A container that has read a large data set has "used" all of its memory, and may have nearly all of it."""
    folder, limit, used, cached = NAMES[version]
    write_group(folder, **{limit: "9000000", used: "8500000", "memory.stat": f"anon 500000\n{cached} 8000000"})
    assert machine.free_memory() == 8_500_000
    write_group(folder, **{used: "9900000", "memory.stat": "anon 9900000"})  # more than there may be
    assert machine.free_memory() == 0


def test_the_total_of_the_first_version_counts_the_groups_below(write_group):
    statistics = "inactive_file 1000\ntotal_inactive_file 4000000"
    files = {"memory.limit_in_bytes": "9000000", "memory.usage_in_bytes": "8000000", "memory.stat": statistics}
    write_group("memory", **files)
    assert machine.free_memory() == 5_000_000


@pytest.mark.parametrize("limited", ["", "slice", "slice/job"])
@pytest.mark.parametrize("version", OWN)
def test_every_group_above_the_process_bounds_its_memory(write_group, version, limited):
    """Slurm and systemd set a job's limit on its own group, not on the root."""
    folder, limit, used, _ = NAMES[version]
    write_group("", membership=OWN[version])
    for group in ("", "slice", "slice/job"):
        write_group(
            pathlib.PurePath(folder, group), **{limit: "9000000" if group == limited else "800000000", used: "1000000"}
        )
    write_group(pathlib.PurePath(folder, "slice/other"), **{limit: "100", used: "50"})
    assert machine.free_memory() == 8_000_000


@pytest.mark.parametrize("limited", ["", "slice", "slice/job"])
@pytest.mark.parametrize("version", OWN)
def test_every_group_above_the_process_bounds_its_cores(write_group, version, limited):
    write_group("", membership=OWN[version])
    for group in ("", "slice", "slice/job"):
        quota = "300000" if group == limited else "1600000"
        if version == "second":
            write_group(group, **{"cpu.max": f"{quota} 100000"})
        else:
            files = {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"}
            write_group(f"cpu,cpuacct/{group}", **files)
    assert machine.cores() == 3


def test_a_path_of_the_host_inside_a_container_leaves_the_mounted_group(write_group):
    write_group("", membership="4:memory:/docker/abc\n0::/../../system/abc")
    write_group("memory", **{"memory.limit_in_bytes": "3000000", "memory.usage_in_bytes": "1000000"})
    assert machine.free_memory() == 2_000_000


@pytest.fixture
def write_group(groups, tmp_path):
    """Writes files of a control group, by their names."""

    def write(group: str | pathlib.PurePath, **files: str) -> None:
        folder = tmp_path / group
        assert folder.is_relative_to(tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n")

    return write
