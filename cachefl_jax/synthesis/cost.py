"""What drawing cost: seconds, their price, and energy where NVIDIA's management library (NVML) tells of the device.

Seconds and energy add up over the processes that drew a set, of which some were stopped: ``cost.json`` lies beside the
images until they are whole. What a process spent on a batch that it did not finish is not known.
"""

import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.machine import cores
from cachefl_jax.storage.files import json_if_whole, write_json

COST = "cost.json"


class Cost(NamedTuple):
    """What was spent so far."""

    seconds: float = 0.0
    images: int = 0  # drawn in these seconds
    energy_joules: float | None = 0.0  # of the whole device, others' work on it included; None where nobody told


class Spent(NamedTuple):
    """What a whole set cost."""

    timed: int  # images whose drawing was timed
    timed_seconds: float
    seconds: float  # of all images: those that a process drew which was stopped count at the same rate
    price: float | None  # None where the price of an hour was not told

    @property
    def seconds_an_image(self) -> float:
        return self.timed_seconds / self.timed


def spent(manifest: Mapping[str, Any], images: int, price_gpu_hour: float) -> Spent | None:
    """What drawing so many images cost, by the manifest of their set; None where no time was recorded.

    `price_gpu_hour`: of an hour of drawing; 0 = not told."""
    seconds, timed = manifest.get("seconds"), manifest.get("timed", images)
    if not seconds or not timed:
        return None
    whole = seconds * images / timed
    return Spent(timed, seconds, whole, whole / 3600 * price_gpu_hour if price_gpu_hour else None)


class Meter:
    """Measures from now on, on top of what was spent `before`."""

    def __init__(self, before: Cost):
        self.before, self.start, self.energy = before, time.monotonic(), device_energy()

    def cost(self, images: int) -> Cost:
        """What is spent now that this process has drawn so many images."""
        now = None if self.energy is None else device_energy()
        spent = None if now is None or self.before.energy_joules is None else now - self.energy
        joules = None if spent is None else round(self.before.energy_joules + spent, 3)
        seconds = round(self.before.seconds + time.monotonic() - self.start, 3)
        return Cost(seconds, self.before.images + images, joules)


def read_cost(folder: pathlib.Path, rows: int) -> Cost:
    """What was spent on the `rows` images that are there; where nobody knows, the energy is not known either."""
    found = json_if_whole(folder / COST)
    try:
        cost = Cost(**found)
        known = cost.energy_joules is None or cost.energy_joules >= 0
        if known and cost.seconds >= 0 and cost.images >= 0:
            return cost._replace(images=min(cost.images, rows))
    except TypeError:
        pass
    return Cost(energy_joules=None if rows else 0.0)


def write_cost(folder: pathlib.Path, cost: Cost) -> None:
    write_json(folder / COST, cost._asdict())


def device() -> str:
    """What images are drawn on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cores()} CPU cores"


def device_energy() -> float | None:
    """Joules that the drawing device has used since its driver was loaded; None where it is no NVIDIA device, or this
    one does not tell, or there is no pynvml."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            # By its own name: CUDA_VISIBLE_DEVICES gives torch other numbers than NVML's.
            name = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # NVML has a kind of error for each thing that a device or driver lacks
        return None
