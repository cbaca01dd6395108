"""The accelerator's readings of rounds: this package's, PyTorch's, and those of kernels on trial."""

import functools
import itertools
import time
from collections.abc import Callable

from experiments.benchmarks import limits, workloads
from experiments.benchmarks.accelerator_record import LEAST_SECONDS, Record, Reference, timed
from experiments.benchmarks.workloads import Workload

SKEWED = ("small", "large")  # workloads that are dealt out by Dirichlet shares, too
ROUNDS_A_CALL = 10


# Remembered as the engine's cases and PyTorch's ask for the same one after the other.
@functools.lru_cache(maxsize=2)
def arrays_of(workload: Workload, split: str) -> workloads.Arrays:
    from experiments.benchmarks import ours

    arrays = workloads.make(workload)
    return ours.deal(arrays, workload.clients) if split == "dirichlet" else arrays


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
    for name, optimizer in itertools.product(jobs, workloads.OPTIMIZERS):
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
    for name, optimizer in itertools.product((name for name in SKEWED if name in jobs), workloads.OPTIMIZERS):
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
    for optimizer in workloads.OPTIMIZERS:
        reference = Reference(arrays_of(jobs[name], "equal").keys)
        for precision in MATMULS:
            choose_precision(precision)
            names = {"workload": name, "optimizer": optimizer, "precision": precision, "by": "cachefl_jax"}
            record.take("precision", ours_by(jobs[name], "equal", optimizer, reference), **names)
            forget_precision()


def recomputed_section(record: Record, jobs: dict[str, Workload]) -> None:
    """AdamW by kernels that store no client's params, a trial, beside the engine's rounds, by `engine.precision`."""
    from cachefl_jax.precision import MATMULS, choose_precision, forget_precision

    for name, workload in jobs.items():
        reference, names = Reference(arrays_of(workload, "equal").keys), {"workload": name, "optimizer": "adamw"}
        for precision in MATMULS:
            choose_precision(precision)
            names |= {"precision": precision}
            record.take("recomputed", ours_by(workload, "equal", "adamw", reference), **names, by="cachefl_jax")
            measure = functools.partial(kernels_on, workload, reference)
            record.take("recomputed", measure, **names, by="Pallas, nothing stored")
            forget_precision()


def kernels_on(workload: Workload, reference: Reference) -> dict:
    """`ours_on` for `recomputed_adamw`; a CPU interprets its kernels."""
    import jax

    from experiments.benchmarks.recomputed_adamw import recomputed
    from experiments.benchmarks.recomputed_kernels import DEVICES, Device

    whole = Device("cuda", workload.classes * workload.keys, workload.width, 1, interpret=True)
    began = time.perf_counter()
    step, keys = recomputed(workload, arrays_of(workload, "equal"), DEVICES.get(jax.default_backend(), whole))
    step(1)
    found = {"start_s": time.perf_counter() - began} | reference.held(keys())
    return found | timed(lambda: step(ROUNDS_A_CALL), ROUNDS_A_CALL)
