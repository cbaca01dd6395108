"""What this package does on one accelerator, and PyTorch beside it, in one process and under six minutes.

    python -m experiments.benchmarks.accelerator --output=DIR [--only=rates,engine] [--seconds=330] [--tiny]

Sections: rates of the card; rounds of clients of equal size by every strategy, and by PyTorch with all clients stacked
and one after another; the same dealt out by Dirichlet shares; many clients and epochs; `engine.precision`; images to
features against transformers; the demo from its start; a sweep of 64 points; where time is left, AdamW by kernels that
store nothing (`recomputed_adamw`). Every strategy's keys after a round are held against the first one's. A reading is
a JSON line of readings.jsonl, written at once; what fails is a reading too, and the rest goes on. At the end stand the
card, the versions and the commit, a table, and accelerator.png.
"""

import functools
import subprocess

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.storage.files import write_json
from experiments.benchmarks import limits, readings, workloads
from experiments.benchmarks.accelerator_record import Record, timed
from experiments.benchmarks.accelerator_rounds import (
    engine_section,
    precision_section,
    recomputed_section,
    scale_section,
    skew_section,
)
from experiments.benchmarks.engine import checked_output
from experiments.benchmarks.workloads import Workload

ROWS = 64  # of a product that are held to float64
TINY = {"classes": 5, "keys": 2, "width": 16, "clients": 4, "samples": 8, "batch": 4}


def rates_section(record: Record, jobs: dict[str, Workload]) -> None:
    """Products and copies of the card, and what starting a program costs."""
    import jax
    import jax.numpy as jnp

    side = 8192 if "imagenet" in jobs else 256
    kinds = {"highest": jnp.float32, "BF16_BF16_F32_X6": jnp.float32, "BF16_BF16_F32_X3": jnp.float32}
    kinds |= {"default": jnp.float32, "bfloat16": jnp.bfloat16}

    def product(name: str) -> dict:
        """Its rate, and how far its first rows are from float64's, in parts of their size."""
        left, right = (jax.random.normal(jax.random.key(seed), (side, side), kinds[name]) for seed in (0, 1))
        run = jax.jit(functools.partial(jnp.matmul, precision=None if name == "bfloat16" else name))
        rows = np.asarray(run(left, right)[:ROWS], np.float64)
        due = np.asarray(left[:ROWS], np.float64) @ np.asarray(right, np.float64)
        found = timed(lambda: jax.block_until_ready(run(left, right)), least=0.2)
        off = float(np.sqrt(np.square(rows - due).mean() / np.square(due).mean()))
        return found | {"tflops": 2 * side**3 / found["ms"] / 1e9, "off": off}

    def launch() -> dict:
        run, start = jax.jit(lambda numbers: numbers + 1), jnp.zeros(8)
        return {"us": 1e3 * timed(lambda: jax.block_until_ready(run(start)), least=0.1)["ms"]}

    for name in kinds:
        record.take("rates", functools.partial(product, name), what=name)
    record.take("rates", lambda: {"gb_per_s": limits.copy_rate() / 1e9}, what="copy")
    record.take("rates", launch, what="one small program")


def encoding_section(record: Record, jobs: dict[str, Workload]) -> None:
    from experiments.benchmarks import accelerator_encoding

    accelerator_encoding.section(record, tiny="imagenet" not in jobs)


def demo_section(record: Record, jobs: dict[str, Workload]) -> None:
    """The demo's command twice, the second time with all that the first one stored."""
    from experiments.benchmarks import start

    record.take("demo", functools.partial(start.whole_demo, tiny="imagenet" not in jobs))


def sweep_section(record: Record, jobs: dict[str, Workload]) -> None:
    """The sweep's command, with all points one after another in a program, and side by side; each twice."""
    from experiments.benchmarks import sweep

    for name, words in (("one after another", []), ("side by side", ["--side_by_side"])):
        measure = functools.partial(sweep.twice, words, tiny="imagenet" not in jobs)
        record.take("sweep", measure, what=f"64 points, {name}")


SECTIONS = {
    "rates": rates_section, "engine": engine_section, "skew": skew_section, "encoding": encoding_section,
    "scale": scale_section, "precision": precision_section, "demo": demo_section, "sweep": sweep_section,
    "recomputed": recomputed_section,
}  # fmt: skip


def machine() -> dict:
    """Card, versions and commit."""
    import jax
    import jaxlib
    import torch

    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    device = jax.devices()[0]
    return {
        "device": device.device_kind, "platform": device.platform, "jax": jax.__version__,
        "jaxlib": jaxlib.__version__, "torch": torch.__version__, "commit": flags.FLAGS.commit or done.stdout.strip(),
    }  # fmt: skip


def main() -> None:
    values, output = flags.FLAGS, checked_output(flags.FLAGS.output)
    record = Record(output, values.seconds)
    jobs = dict(workloads.WORKLOADS)
    if values.tiny:
        jobs = {"small": workloads.WORKLOADS["small"]._replace(**TINY)}
    about = machine()
    record.say("machine", **about, memory=readings.memory("VmRSS"))
    for name in values.only or SECTIONS:
        record.take(name, lambda name=name: SECTIONS[name](record, jobs) or {"done": True})
    write_json(output / "results.json", {"machine": about, "readings": record.lines})
    from experiments.benchmarks import accelerator_tables

    accelerator_tables.write(output / "accelerator.png", record.lines)
    print(accelerator_tables.text(record.lines))


def define_flags() -> None:
    flags.DEFINE_string("output", "runs/benchmarks/accelerator", "the folder of the results")
    flags.DEFINE_multi_enum("only", [], list(SECTIONS), "these sections alone")
    flags.DEFINE_float("seconds", 330, "no reading begins later", lower_bound=0)
    flags.DEFINE_bool("tiny", False, "shapes that try the command on any machine")
    flags.DEFINE_string("commit", "", "told in the results where there is no repository")


if __name__ == "__main__":
    define_flags()
    command.run(main)
