"""Sections of decision.json beside accuracy: bytes, work, the cost of the server's images, privacy."""

import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

import jax

from cachefl_jax.poc import costs, generation, privacy, work
from cachefl_jax.poc import provenance as origins
from cachefl_jax.privacy.audit.part import Settings
from cachefl_jax.simulation.audit import open_run
from cachefl_jax.simulation.finished import rebuild, stored
from cachefl_jax.simulation.leak_parts import Plan, own_leak
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.files import read_json, write_json
from cachefl_jax.storage.run_files import read_summary
from cachefl_jax.synthesis.records import drawn_images

if TYPE_CHECKING:
    from cachefl_jax.data.images import LabelledImages
    from cachefl_jax.poc.decision import Found

LEAKS = Plan(attacked=8, rows=(1, 8))  # cachefl audit tries more
LEAK = "leak.json"


def image_bytes(split: "LabelledImages", rows) -> int | None:
    """Of the files of these images; None where they are not all files."""
    if not getattr(split.images, "files", False):
        return None
    return sum(os.path.getsize(split.images.name(int(row))) for row in rows)


def sections(found: "Found", facts: dict[str, Any]) -> dict[str, Any]:
    """What of decision.json is reckoned from the run that is left, and from `facts`, its other sections."""
    workdir = Workdir(found.run)
    summary, finished = read_summary(workdir.summary), rebuild(workdir, stored(workdir))
    inputs, config, rows = found.inputs, found.config, facts["rows"]
    best, own, model = facts["recommended"], facts["own"], summary["whole_model"]
    bank = inputs.bank
    told = costs.costs(costs.Facts(rows, best, own, facts["sites"], bank.classes, bank.width, model))
    timed = rows[best] | {name: summary["methods"][best].get(name) for name in ("rounds", "seconds_per_round")}
    site = work.site_of(timed, model, inputs.partition.sizes, inputs.partition.clients)
    manifest = bank.metadata.get("synthetic") or {}
    images = drawn_images(manifest) or len(bank.synthetic.labels)
    synthesis, price = config.synthesis, config.synthesis.price_gpu_hour
    cost = generation.Facts(synthesis.source, synthesis.path, manifest, images, price)
    seen = privacy.Facts(config.to_dict(), summary["methods"], best, own, leak_of(workdir))
    chosen = privacy.Choice(facts["data"]["validation"], found.points, facts["data"]["test"])
    made = origins.Facts(config.to_dict(), manifest, bank.metadata, len(facts["seeds"]), jax.default_backend())
    return told | {
        "work": work.work(site, work.measured(finished)), "generation": generation.generation(cost),
        "privacy": privacy.privacy(seen), "choice": privacy.choice(chosen),
        "provenance": origins.provenance(made), "untested": origins.untested(made), "whole_model": model,
        "repeat": origins.repeat(found.run.parent), "name": found.run.parent.resolve().name, "versions": versions(),
    }  # fmt: skip


def leak_of(workdir: Workdir) -> dict[str, Any]:
    """What an attack on updates reads from them, of this run; measured once, and kept in leak.json."""
    file = workdir.path.parent / LEAK
    if not file.is_file():
        write_json(file, own_leak(open_run(workdir, Settings()), LEAKS))
    return read_json(file)


def versions() -> dict[str, str]:
    """Of the interpreter and of what the figures depend on."""
    names = ("cachefl_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
