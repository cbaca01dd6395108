"""Where a run's metrics go beside metrics.jsonl: TensorBoard and Weights & Biases, fed from the same records.

What `writers` does not name is neither imported nor need it be installed. A start that goes on from a checkpoint hands
over all records again, from round 0, so that a writer which comes later misses none; each makes one series of them.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from cachefl_jax.config.as_json import resolved
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.workdir import Workdir

Write = Callable[[list[dict]], None]  # takes records as metrics.jsonl has them
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
PROJECT = "cachefl"  # where WANDB_PROJECT names no other


def check_writers(config: ConfigDict) -> None:
    """Raises UsageError: the package of a writer is not installed."""
    for name in config.writers:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            found = f"{name} (no package {PACKAGES[name]})"
            raise UsageError("writers", found, "writers whose packages are installed", f"pip install {PACKAGES[name]}")


@contextlib.contextmanager
def open_writers(config: ConfigDict, workdir: Workdir) -> Iterator[Write]:
    """Gives what hands records to every writer that the config names, in the process that writes; the others to none.

    Raises UsageError: Weights & Biases refuses the run."""
    with contextlib.ExitStack() as stack:
        names = dict.fromkeys(config.writers) if workdir.writes else ()
        writers = [stack.enter_context(WRITERS[name](config, workdir)) for name in names]

        def write(records: list[dict]) -> None:
            for each in writers:
                each(records)

        yield write


@contextlib.contextmanager
def tensorboard(config: ConfigDict, workdir: Workdir) -> Iterator[Write]:
    """Event files in the run's folder, below tensorboard/; they hide those of an earlier start."""
    from tensorboardX import SummaryWriter

    del config
    folder = workdir.path / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    writer = SummaryWriter(str(folder), purge_step=0)

    def write(records: list[dict]) -> None:
        for record in records:
            for name, value in numbers(record).items():
                writer.add_scalar(name, value, record["round"])
        writer.flush()

    with contextlib.closing(writer):
        yield write


@contextlib.contextmanager
def wandb(config: ConfigDict, workdir: Workdir) -> Iterator[Write]:
    """A run at Weights & Biases, called as the folder; the same command in the same folder goes on with it.

    WANDB_MODE, WANDB_PROJECT and its other variables count as ever.

    Raises UsageError: it cannot be begun."""
    import wandb as library

    told = {name: value for name, value in resolved(config).items() if name not in ("rounds", "writers")}
    identity = json.dumps([str(workdir.path.absolute()), told], sort_keys=True)
    try:
        run = library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=workdir.path.name, dir=str(workdir.path),
            id=hashlib.sha256(identity.encode()).hexdigest()[:16], resume="allow", config=told,
        )  # fmt: skip
    except Exception as error:  # of many kinds: no login, no network, no rights
        found = f"wandb ({type(error).__name__}: {error})"
        mend = "log in with wandb login, or set WANDB_MODE=offline"
        raise UsageError("writers", found, "a run that Weights & Biases takes", mend) from error

    def write(records: list[dict]) -> None:
        for record in records:
            if record["round"] >= run.step:  # it takes no step twice; the rounds it has are the same
                run.log(numbers(record), step=record["round"])

    with run:
        yield write


def numbers(record: dict) -> dict[str, float]:
    """What a record measures: its numbers, without the round's own."""
    return {name: value for name, value in record.items() if name != "round" and isinstance(value, (int, float))}


WRITERS = {"tensorboard": tensorboard, "wandb": wandb}
