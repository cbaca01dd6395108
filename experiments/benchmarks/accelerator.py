"""What this package does on one accelerator, and PyTorch beside it, in one process and under six minutes.

    python -m experiments.benchmarks.accelerator --output=DIR [--only=rates,engine] [--seconds=330] [--tiny]

Sections: rates of the card; rounds of clients of equal size by every strategy, and by PyTorch with all clients stacked
and one after another; the same dealt out by Dirichlet shares; many clients and epochs; `engine.precision`; images to
features against transformers; the demo from its start; a sweep of 64 points. Every strategy's keys after a round are
held against the first one's. A reading is a JSON line of readings.jsonl, written at once; what fails is a reading too,
and the rest goes on. At the end stand the card, the versions and the commit, a table, and accelerator.png.
"""

import functools
import itertools
import json
import pathlib
import subprocess
import time
from collections.abc import Callable

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.storage.files import write_json
from experiments.benchmarks import limits, readings, workloads
from experiments.benchmarks.engine import checked_output
from experiments.benchmarks.workloads import Workload

OPTIMIZERS = ("sgd", "adamw")
SKEWED = ("small", "large")  # workloads that are dealt out by Dirichlet shares, too
ROUNDS_A_CALL, LEAST_SECONDS, MOST_CALLS = 10, 1.0, 15
SEQUENTIAL_ROUNDS = 3
TINY = {"classes": 5, "keys": 2, "width": 16, "clients": 4, "samples": 8, "batch": 4}


class Record:
    """The readings so far, in a file and in memory."""

    def __init__(self, folder: pathlib.Path, seconds: float):
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.began, self.seconds = folder / "readings.jsonl", time.perf_counter(), seconds
        self.file.write_text("")
        self.lines: list[dict] = []

    def say(self, section: str, **fields) -> None:
        """One reading more."""
        line = {"section": section, **fields, "at_s": round(time.perf_counter() - self.began, 1)}
        self.lines.append(line)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def take(self, section: str, measure: Callable[[], dict], **names) -> None:
        """What `measure` gives, with these names; that it failed; or that no time was left for it."""
        if time.perf_counter() - self.began > self.seconds:
            self.say(section, **names, skipped="no time left")
            return
        try:
            self.say(section, **names, **measure())
        except Exception as error:  # whatever a library raises on this card
            self.say(section, **names, error=f"{type(error).__name__}: {error}"[:500])


def timed(call: Callable[[], object], rounds: int = 1, least: float = LEAST_SECONDS) -> dict:
    """Milliseconds a round, median and best, of calls that do so many rounds each and end when they are done."""
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < least and len(taken) < MOST_CALLS):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) / rounds)
    return {"ms": 1e3 * float(np.median(taken)), "best_ms": 1e3 * min(taken)}


# Remembered as the engine's cases and PyTorch's ask for the same one after the other.
@functools.lru_cache(maxsize=2)
def arrays_of(workload: Workload, split: str) -> workloads.Arrays:
    from experiments.benchmarks import ours

    arrays = workloads.make(workload)
    return ours.deal(arrays, workload.clients) if split == "dirichlet" else arrays


class Reference:
    """The keys after one round that all others are held against: the first that come."""

    def __init__(self, start: np.ndarray):
        self.start, self.keys = start.reshape(-1, start.shape[-1]).copy(), None

    def held(self, keys: np.ndarray) -> dict:
        """The largest difference to the first, and how far that one moved."""
        keys = keys.reshape(self.start.shape)
        self.keys = keys.copy() if self.keys is None else self.keys
        moved = float(np.abs(self.keys - self.start).max())
        return {"off": float(np.abs(keys - self.keys).max()), "moved": moved}


def ours_on(workload: Workload, split: str, choice, reference: Reference) -> dict:
    """A strategy of this package: start, then rounds, and how near to the card's limits."""
    from experiments.benchmarks import ours

    began = time.perf_counter()
    step, keys = ours.prepare_ours(workload, arrays_of(workload, split), 1, choice)
    step(1)
    found = {"start_s": time.perf_counter() - began} | reference.held(keys())
    step(ROUNDS_A_CALL)
    found |= timed(lambda: step(ROUNDS_A_CALL), ROUNDS_A_CALL)
    found["tflops"] = limits.round_flops(workload) / found["ms"] / 1e9
    if choice.optimizer == "adamw":
        found["gb_per_s"] = limits.adamw_bytes(workload) / found["ms"] / 1e6
    return found


def torch_on(workload: Workload, optimizer: str, how: str, reference: Reference) -> dict:
    """PyTorch on the same, by the float32 products that it has by default."""
    import torch

    from experiments.benchmarks import torch_sequential, torch_stacked

    device, arrays = "cuda" if torch.cuda.is_available() else "cpu", arrays_of(workload, "equal")
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None
    if how == "client by client":
        one_round, parameter = torch_sequential.sequential(workload, arrays._replace(keys=arrays.keys.copy()),
                                                           optimizer, device)  # fmt: skip
        keys, rounds = lambda: parameter.detach(), 1
    else:
        rounds, compiled = ROUNDS_A_CALL, how == "stacked, compiled"
        one_round, keys = torch_stacked.stacked(workload, arrays, optimizer, device, compiled)

    def call(count: int) -> None:
        for _ in range(count):
            one_round()
        finish()

    call(1)
    found = reference.held(keys().cpu().numpy())
    found |= timed(lambda: call(rounds), rounds, LEAST_SECONDS if rounds > 1 else 0)
    if device == "cuda":
        torch.cuda.empty_cache()
    return found


def engine_section(record: Record, jobs: dict[str, Workload]) -> None:
    """Clients of equal size: ours, then PyTorch."""
    for name, optimizer in itertools.product(jobs, OPTIMIZERS):
        workload, names = jobs[name], {"workload": name, "optimizer": optimizer}
        reference = Reference(arrays_of(workload, "equal").keys)
        record.take("engine", ours_by(workload, "equal", optimizer, reference), **names, by="cachefl_jax")
        for how in ("stacked", "client by client"):
            measure = functools.partial(torch_on, workload, optimizer, how, reference)
            record.take("engine", measure, **names, by=f"PyTorch, {how}")


def ours_by(workload: Workload, split: str, optimizer: str, reference: Reference, **choices) -> Callable[[], dict]:
    """`ours_on` as `Record.take` calls it."""
    from experiments.benchmarks.ours import Choice

    return functools.partial(ours_on, workload, split, Choice(optimizer, **choices), reference)


def skew_section(record: Record, jobs: dict[str, Workload]) -> None:
    """The same rows dealt out by Dirichlet shares."""
    for name, optimizer in itertools.product((name for name in SKEWED if name in jobs), OPTIMIZERS):
        reference, names = (
            Reference(arrays_of(jobs[name], "dirichlet").keys),
            {"workload": name, "optimizer": optimizer},
        )
        record.take("skew", ours_by(jobs[name], "dirichlet", optimizer, reference), **names, by="cachefl_jax")


def scale_section(record: Record, jobs: dict[str, Workload]) -> None:
    """More clients, more epochs, and cohorts that are drawn."""
    small = jobs["small"]
    many, more = (20, 40) if small.clients < 100 else (2_000, 100_000)
    crowd = small._replace(clients=many)
    cases = [
        ("sgd", crowd, 0), ("adamw", crowd, 0), ("sgd", crowd, many // 20),
        ("sgd", small._replace(epochs=10), 0), ("sgd", small._replace(clients=more, samples=4, batch=4), 0),
    ]  # fmt: skip
    for optimizer, workload, cohort in cases:
        reference = Reference(arrays_of(workload, "equal").keys)
        names = {"workload": "small", "optimizer": optimizer, "clients": workload.clients, "epochs": workload.epochs}
        names |= {"samples": workload.samples, "cohort": cohort}
        record.take("scale", ours_by(workload, "equal", optimizer, reference, cohort=cohort), **names, by="cachefl_jax")


def precision_section(record: Record, jobs: dict[str, Workload]) -> None:
    """`engine.precision`: rounds, and how far keys are from float32's after one."""
    from cachefl_jax.precision import MATMULS, choose_precision, forget_precision

    name = "imagenet" if "imagenet" in jobs else "small"
    for optimizer in OPTIMIZERS:
        reference = Reference(arrays_of(jobs[name], "equal").keys)
        for precision in MATMULS:
            choose_precision(precision)
            names = {"workload": name, "optimizer": optimizer, "precision": precision, "by": "cachefl_jax"}
            record.take("precision", ours_by(jobs[name], "equal", optimizer, reference), **names)
            forget_precision()


def rates_section(record: Record, jobs: dict[str, Workload]) -> None:
    """Products and copies of the card, and what starting a program costs."""
    import jax
    import jax.numpy as jnp

    side = 8192 if "imagenet" in jobs else 256
    kinds = {"highest": jnp.float32, "BF16_BF16_F32_X3": jnp.float32, "default": jnp.float32, "bfloat16": jnp.bfloat16}

    def product(name: str) -> dict:
        left, right = (jax.random.normal(jax.random.key(seed), (side, side), kinds[name]) for seed in (0, 1))
        run = jax.jit(functools.partial(jnp.matmul, precision=None if name == "bfloat16" else name))
        jax.block_until_ready(run(left, right))
        found = timed(lambda: jax.block_until_ready(run(left, right)), least=0.2)
        return found | {"tflops": 2 * side**3 / found["ms"] / 1e9}

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
