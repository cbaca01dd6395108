"""Work at a site: minutes of encoding and of training, apart, and memory, on machines of several classes.

What is timed on this machine is said to be measured. For others, operations are divided by a rate, of which is said
who measured it, or that it is assumed.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax import machine
from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.report import units
from cachefl_jax.simulation.finished import Finished

BATCHES = 2  # that are encoded to time the encoder
MEASURED, ASSUMED = "measured", "assumed"


class Site(NamedTuple):
    """What the largest site has to do."""

    images: int  # that it trains on
    image_flops: float | None  # of the image tower, an image; None: the encoder is not known
    rounds: int
    round_flops: float | None  # of its training in a round, a client of average size; None: not counted
    round_seconds: float | None  # of all clients' training in a round, in the simulator
    clients: int  # that took part in a round


class Here(NamedTuple):
    """What this machine was seen to do; None where it could not be."""

    encoding: float | None  # images a second
    encoding_bytes: int | None  # the encoder's weights and one batch
    training_bytes: int | None  # `simulation.clock.site_memory` of the largest site


class Machine(NamedTuple):
    """A class of machines, by operations a second."""

    name: str
    encoding: float
    training: float
    memory: float | None  # bytes
    source: str


PRESET_LABELS = {"office": "office computer", "phone": "phone", "hospital": "hospital's server"}
# docs/figures.md, "One GPU": ViT-B/32 in float32, 8.84 GFLOP an image (tower_costs), 4,414 images a second.
GPU = Machine(
    "one NVIDIA H200", 4414 * 8.84e9, 4414 * 8.84e9, 141e9,
    "ViT-B/32's encoding measured in docs/figures.md, carried over by operations; memory as its maker says",
)  # fmt: skip
LEAST_ROUND = 0.2e-3  # seconds of a round on that card, however small: docs/figures.md


def machines() -> list[Machine]:
    """The classes beside this machine."""
    presets = [
        Machine(PRESET_LABELS[name], PRESETS[name]["flops"]["median"], PRESETS[name]["flops"]["median"],
                PRESETS[name]["memory"], "operations a second and memory assumed (docs/sites.md)")
        for name in PRESET_LABELS
    ]  # fmt: skip
    return [*presets, GPU]


def work(site: Site, here: Here) -> dict[str, Any]:
    """`work` of decision.json: images, rounds, memory, and machines with encoding_seconds and training_seconds."""
    lines = [this_machine(site, here), *(on(each, site, here) for each in machines())]
    memory = {"encoding": here.encoding_bytes, "training": here.training_bytes}
    return {"images": site.images, "rounds": site.rounds, "memory": memory, "machines": lines,
            "sentences": sentences(site, here)}  # fmt: skip


def this_machine(site: Site, here: Here) -> dict[str, Any]:
    """What was timed here; all clients train in one program, of which a site has its equal share."""
    encoding = site.images / here.encoding if here.encoding else None
    training = None if site.round_seconds is None else site.rounds * site.round_seconds / max(site.clients, 1)
    source = "timed in this run"
    if training is None:
        source += "; a single round is not timed apart from compiling it"
    return line(f"this machine ({machine.cores()} cores)", encoding, training, MEASURED, source)


def on(each: Machine, site: Site, here: Here) -> dict[str, Any]:
    """What operations come to on a machine of a class."""
    encoding = None if site.image_flops is None else site.images * site.image_flops / each.encoding
    training = None
    if site.round_flops is not None:
        least = LEAST_ROUND if each is GPU else 0.0
        training = site.rounds * max(site.round_flops / each.training, least)
    kind = f"{MEASURED}, carried over" if each is GPU else ASSUMED
    told = line(each.name, encoding, training, kind, each.source)
    needs = [need for need in (here.encoding_bytes, here.training_bytes) if need is not None]
    return told | {"fits": max(needs) <= each.memory if needs and each.memory else None}


def line(name: str, encoding: float | None, training: float | None, kind: str, source: str) -> dict[str, Any]:
    return {"name": name, "encoding_seconds": encoding, "training_seconds": training, "kind": kind, "source": source,
            "fits": None}  # fmt: skip


def sentences(site: Site, here: Here) -> list[str]:
    """What the figures are of."""
    told = [
        f"Encoding is once, of the {site.images:,} training images of the largest site; training is of "
        f"{'the one round' if site.rounds == 1 else f'all {site.rounds:,} rounds'}, a site of average size."
    ]
    if site.image_flops is not None:
        told.append(f"Encoding takes {units.readable_flops(site.image_flops)} an image.")
    if site.round_flops is not None:
        told.append(f"Training takes {units.readable_flops(site.round_flops)} a round.")
    if here.encoding_bytes is not None:
        told.append(
            f"Memory for encoding: {units.readable_bytes(here.encoding_bytes)}, the image tower's weights and the "
            "program of a batch as XLA says; the libraries themselves are not in it."
        )
    if here.training_bytes is not None:
        told.append(
            f"Memory for training: {units.readable_bytes(here.training_bytes)}, of params, their gradient and update, "
            "the optimizer's state, what is frozen, and the rows; activations are not in it."
        )
    return told


def measured(finished: Finished) -> Here:
    """Times the run's encoder on some of its training images, decoding included, and asks XLA for its memory.

    Needs `finished.inputs.source`; without it (a bank) nothing of encoding is known."""
    from cachefl_jax.simulation.clock import site_memory

    training = site_memory(finished.learner)
    training = int(training.max()) if len(training) else None
    source = getattr(finished.inputs, "source", None)
    if source is None:
        return Here(None, None, training)
    from cachefl_jax.clip.encoding import prepared_size
    from cachefl_jax.simulation.encoded import Checkpoint

    clip = finished.config.clip
    checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
    size = prepared_size(checkpoint.preparation, source.train.images)
    return Here(encoding_rate(checkpoint, source.train, size), encoding_bytes(checkpoint, size), training)


def encoding_rate(checkpoint, split: LabelledImages, size: tuple[int, int]) -> float:
    """Images a second, decoded and encoded, of `BATCHES` batches. One image goes before: compiling is not in it."""
    from cachefl_jax.clip.encoding import default_devices, encode_images, per_batch

    encoder, options = checkpoint.image_encoder, checkpoint.options
    count = min(len(split.labels), BATCHES * per_batch(checkpoint.batch_size, size, default_devices(), 1))
    some = select(split, np.arange(count)).images  # decoded when they are asked for
    encode_images(encoder, select(split, np.arange(1)).images, "before timing", options)
    started = time.perf_counter()
    encode_images(encoder, some, "timed", options)
    return count / (time.perf_counter() - started)


def encoding_bytes(checkpoint, size: tuple[int, int]) -> int:
    """The image tower's weights, and what the program of one batch takes beside them, as XLA says."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from cachefl_jax.clip.encoding import ImageProgram, default_devices, per_batch
    from cachefl_jax.clip.weights import DTYPES

    encoder, devices = checkpoint.image_encoder, default_devices()
    program = ImageProgram(encoder, devices, jnp.dtype(DTYPES[checkpoint.dtype]))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(encoder.model)))
    count = per_batch(checkpoint.batch_size, size, devices, 1)
    return weights + math.ceil(program.bytes_for((count, *size, 3)))


def site_of(row: Mapping[str, Any], model: Mapping[str, Any] | None, sizes, cohort: int) -> Site:
    """From a row of decision.json, `whole_model` of summary.json, and the sites' training images [C].

    `cohort`: clients that took part in a round."""
    forward = None if model is None else model.get("image_forward_flops")
    return Site(
        int(max(sizes)), forward, round(row.get("rounds") or 1), row.get("client_flops_per_round"),
        row.get("seconds_per_round"), cohort,
    )  # fmt: skip
