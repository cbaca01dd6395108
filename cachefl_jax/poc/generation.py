"""What the server's images cost: seconds, price and energy, told where they were measured and nowhere else."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.report import units
from cachefl_jax.synthesis.cost import Spent, spent


class Facts(NamedTuple):
    """What is known of the server's set."""

    source: str  # synthesis.source
    path: str  # synthesis.path, of images that were brought along
    manifest: Mapping[str, Any]  # `inputs.bank.metadata["synthetic"]`; {} for a bank
    images: int  # that were drawn; of a set that was not, all
    price_gpu_hour: float  # synthesis.price_gpu_hour; 0 = not told


def generation(facts: Facts) -> dict[str, Any]:
    """`generation` of decision.json: images, seconds and price (None where not known), and sentences."""
    if facts.source not in DRAWN:
        told = [not_drawn(facts)]
        if facts.price_gpu_hour:
            told.append("The price of an hour (synthesis.price_gpu_hour) has no effect: no image was drawn here.")
        return {"images": facts.images, "seconds": None, "price": None, "sentences": told}
    found = spent(facts.manifest, facts.images, facts.price_gpu_hour)
    if found is None:
        told = f"{facts.images:,} images were drawn; how long that took was not recorded."
        return {"images": facts.images, "seconds": None, "price": None, "sentences": [told]}
    return {
        "images": facts.images, "seconds": found.seconds, "price": found.price,
        "sentences": [drawn(facts, found), priced(facts, found), energy(facts)],
    }  # fmt: skip


def drawn(facts: Facts, found: Spent) -> str:
    """How long drawing took, and on what."""
    where = facts.manifest.get("device")
    told = f"{found.timed:,} images were drawn in {units.readable_seconds(found.timed_seconds)}"
    told += f" on {where}" if where else " (the machine was not recorded)"
    told += f", {units.readable_seconds(found.seconds_an_image)} an image."
    if found.timed != facts.images:
        told += f" The other {facts.images - found.timed:,} of {facts.images:,} were drawn by a process that was "
        told += "stopped; they count at the same rate."
    return told


def priced(facts: Facts, found: Spent) -> str:
    """What the seconds cost at the price that was told."""
    if found.price is None:
        return "Price: not told. synthesis.price_gpu_hour takes what an hour of that machine costs you."
    return f"At {facts.price_gpu_hour:g} an hour (synthesis.price_gpu_hour) that is {found.price:.2g}."


def energy(facts: Facts) -> str:
    """What the drawing device used, where it told."""
    joules = facts.manifest.get("energy_joules")
    if joules is None:
        return "Energy: not measured; NVML tells it of NVIDIA devices alone."
    return f"Energy: {joules / 3.6e6:.3g} kWh, of the whole device while it drew."


def not_drawn(facts: Facts) -> str:
    """Why nothing is known, or nothing was spent."""
    if facts.source == "image_folder":
        return f"Not known: the images came from the folder {facts.path}. Drawing them happened, if at all, elsewhere."
    if facts.source == "held_out":
        return "Nothing was generated: the server's set is of real images. What collecting them cost is not known."
    return "Not known: the bank brought the set's features."
