"""Seconds and energy of drawing add up over processes; energy is told where NVML tells it and nowhere else."""

import sys
from types import SimpleNamespace

import pytest
import torch

from cachefl_jax.synthesis import cost
from cachefl_jax.synthesis.cost import Cost, Meter, Spent, read_cost, spent, write_cost

NAME = "0b5c-1f"


@pytest.fixture
def nvml(monkeypatch):
    """One NVIDIA device, of this name, that has used `millijoules`; and the calls in their order."""
    state = SimpleNamespace(millijoules=5_000_000, calls=[])

    def handle(name: str) -> str:
        state.calls.append(name)
        if name != f"GPU-{NAME}":
            raise RuntimeError("no such device")
        return "handle"

    def total(found: str) -> int:
        assert found == "handle"
        return state.millijoules

    fake = SimpleNamespace(
        nvmlInit=lambda: state.calls.append("init"), nvmlShutdown=lambda: state.calls.append("shutdown"),
        nvmlDeviceGetHandleByUUID=handle, nvmlDeviceGetTotalEnergyConsumption=total,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=NAME))
    return state


def test_energy_is_the_difference_of_the_devices_counter_in_joules(nvml):
    meter = Meter(Cost())
    nvml.millijoules += 2500
    assert meter.cost(3).energy_joules == 2.5
    nvml.millijoules += 500
    assert meter.cost(6)[1:] == (6, 3.0)
    assert nvml.calls == ["init", f"GPU-{NAME}", "shutdown"] * 3


def test_both_add_up_over_processes(nvml, tmp_path, monkeypatch):
    monkeypatch.setattr(cost.time, "monotonic", lambda: nvml.millijoules / 1000)  # a watt
    meter = Meter(read_cost(tmp_path, 0))
    nvml.millijoules += 4000
    write_cost(tmp_path, meter.cost(16))
    meter = Meter(read_cost(tmp_path, 16))
    nvml.millijoules += 2000
    assert meter.cost(8) == Cost(6.0, 24, 6.0)


def test_images_that_are_drawn_again_count_once(tmp_path):
    write_cost(tmp_path, Cost(9.0, 48, None))
    assert read_cost(tmp_path, 16) == Cost(9.0, 16, None)


def lost(monkeypatch, nvml) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def other_device(monkeypatch, nvml) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="other"))


def no_device(monkeypatch, nvml) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def no_counter(monkeypatch, nvml) -> None:
    monkeypatch.delattr(sys.modules["pynvml"], "nvmlDeviceGetTotalEnergyConsumption")


@pytest.mark.parametrize("lack", [lost, other_device, no_device, no_counter])
def test_where_nobody_tells_energy_is_not_known(nvml, monkeypatch, lack):
    assert cost.device_energy() == 5000.0
    lack(monkeypatch, nvml)
    assert cost.device_energy() is None
    assert Meter(Cost()).cost(1).energy_joules is None


def test_energy_of_a_part_alone_is_not_the_sets(nvml, tmp_path):
    write_cost(tmp_path, Cost(1.0, 16, None))  # a process without NVML drew these
    assert Meter(read_cost(tmp_path, 16)).cost(1).energy_joules is None
    (tmp_path / "cost.json").unlink()  # nobody knows
    assert Meter(read_cost(tmp_path, 16)).cost(1).energy_joules is None


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"seconds": "x", "images": 1, "energy_joules": 1}', '{"seconds": -1}']
)
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / "cost.json").write_text(text)
    assert read_cost(tmp_path, 16) == Cost(0.0, 0, None)


def test_images_of_a_stopped_process_cost_as_much_as_those_that_were_timed():
    manifest = {"seconds": 36.0, "timed": 10}
    assert spent(manifest, 40, 0.0) == Spent(10, 36.0, 144.0, None)
    assert spent(manifest, 40, 2.5).price == pytest.approx(0.1)
    assert spent(manifest, 40, 2.5).seconds_an_image == 3.6
    assert spent({"seconds": 36.0}, 40, 0.0) == Spent(40, 36.0, 36.0, None)
    assert spent({}, 40, 2.5) is None
    assert spent({"seconds": 0.0, "timed": 0}, 40, 2.5) is None
