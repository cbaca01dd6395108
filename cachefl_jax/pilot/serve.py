"""A pilot from its config to its folder: who comes, the rounds, and the files that a run leaves."""

import json
import math
import pathlib
import time

import jax
from flwr.serverapp import Grid
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import RoundMetrics, figures, make_scores, traffic
from cachefl_jax.methods import find_method
from cachefl_jax.pilot.limits import agreed_fields, of_sites
from cachefl_jax.pilot.messages import setup_record
from cachefl_jax.pilot.roll import Heard, Roll
from cachefl_jax.pilot.rounds import ServerWork
from cachefl_jax.precision import arithmetic
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.examples import tested_rows
from cachefl_jax.simulation.prepare import Inputs, prepare
from cachefl_jax.simulation.regimes import Run, artefact_of, deployed
from cachefl_jax.simulation.train import untuned_cache
from cachefl_jax.simulation.workdir import Workdir


def serve(grid: Grid, config: ConfigDict, path: pathlib.Path, pilot: dict) -> None:
    """All rounds with the sites that `pilot` names; writes into the folder `path`.

    Args:
        grid: Flower's connection to the sites.
        config: the server's, resolved; as `inputs_of_server` takes it.
        pilot: {"sites": names, "wait": seconds for all to come, "round_seconds": the most that a round may last}.

    Raises UsageError: sites do not come, refuse, or none is left; or the rounds do not stay finite."""
    use_engine(config.engine)
    inputs, workdir = inputs_of_server(config), Workdir(path)

    def say(line: str) -> None:
        with (path / "pilot.log").open("a") as file:
            file.write(line + "\n")

    workdir.write_artefact(workdir.cache_init, *untuned_cache(config, inputs, workdir))
    weights = inputs.parts.get("encoder", "")
    roll = Roll(grid, pilot["sites"], setup_record(inputs.server, agreed_fields(config), weights), say)
    roll.wait_for_all(pilot["wait"])
    work = ServerWork(config, inputs, [roll.rows[number] for number in range(len(roll.names))])
    evaluate = evaluation(config, inputs)
    records = [{"round": 0, **evaluate(work.params), "train_loss": None, "bytes_up": 0, "bytes_down": 0,
                "wire_up": 0, "wire_down": 0, "seconds": 0.0, "cohort": 0, "sites": []}]  # fmt: skip
    workdir.append_metrics(records)
    for number in range(config.rounds):
        began, asked = time.monotonic(), work.asked()
        heard = roll.ask(asked, work.leaves(), number, pilot["round_seconds"])
        if asked and not heard.answers:
            names = ", ".join(roll.names[site] for site in asked)
            allowed = "one or more sites in every round"
            raise UsageError("sites", f"none of {names} answered in round {number + 1}", allowed, "begin anew")
        told = work.close(heard.answers)
        records.append(record_of(work, roll, number + 1, heard, told) | {"seconds": time.monotonic() - began})
        if (number + 1) % config.eval_every == 0 or number + 1 == config.rounds:
            records[-1] |= evaluate(work.state.params)
        workdir.append_metrics(records[-1:])
        say(line_of(records[-1], config.rounds))
    finish(config, inputs, work, roll, (workdir, records))


def inputs_of_server(config: ConfigDict) -> Inputs:
    """What the server brings: class names, texts, the synthetic set, and rows to test on. Its training rows, which a
    source may have, are held by nobody.

    Raises UsageError: as `prepare`."""
    config = config.copy_and_resolve_references()
    config.cohort = 0
    return prepare(of_sites(config, 1))


def evaluation(config: ConfigDict, inputs: Inputs):
    """params -> figures on the server's own rows. Those over the clients are the simulator's alone: no site tells the
    server of which classes its rows are."""
    method = find_method(config.method)
    frozen = method.freeze(inputs.server, config)
    rows = {name: tested_rows(getattr(inputs.bank, name), None, method.inputs) for name in ("test", "validation")}
    scores = make_scores(method.logits, False)

    def evaluate(params) -> dict:
        found = {name: figures(jax.device_get(scores(params, frozen, split))) for name, split in rows.items() if split}
        test = found["test"]
        told = {"test_accuracy": test.accuracy, "test_balanced_accuracy": test.balanced_accuracy,
                "test_ece": test.ece, "test_cross_entropy": test.cross_entropy}  # fmt: skip
        if not all(math.isfinite(value) for value in told.values()):
            raise UsageError("local.learning_rate", config.local.learning_rate, "one at which rounds stay finite",
                             "lower it")  # fmt: skip
        valid = float(found["validation"].accuracy) if "validation" in found else None
        return {name: float(value) for name, value in told.items()} | {"validation_accuracy": valid}

    return evaluate


def record_of(work: ServerWork, roll: Roll, number: int, heard: Heard, told: RoundMetrics) -> dict:
    """A round's line of metrics.jsonl. Bytes are counted as the simulator does, `wire` as the messages' arrays."""
    up, down = traffic(work.federation, work.params, work.problem)
    clients = int(told.clients)
    if not bool(told.finite):
        raise UsageError("local.learning_rate", f"training that diverged in round {number}", "a rate at which it stays "
                         "finite", "lower it")  # fmt: skip
    return {
        "round": number, "test_accuracy": None, "validation_accuracy": None,
        "train_loss": float(told.train_loss) if clients else None,
        "bytes_up": up * clients, "bytes_down": down * clients, "wire_up": heard.up, "wire_down": heard.down,
        "cohort": clients, "sites": [roll.names[site] for site in sorted(heard.answers)],
    }  # fmt: skip


def line_of(record: dict, rounds: int) -> str:
    """A round in words."""
    test = record["test_accuracy"]
    scored = "" if test is None else f", test {test:.1%}"
    return f"round {record['round']} of {rounds}: {record['cohort']} sites{scored}, {record['seconds']:.1f} s"


def finish(config: ConfigDict, inputs: Inputs, work: ServerWork, roll: Roll, done: tuple[Workdir, list[dict]]) -> None:
    """The artefact and the summary."""
    workdir, records = done
    run, names = Run(config, inputs, workdir), {"class_names": list(inputs.bank.class_names)}
    artefact = artefact_of(run, config.method, work.state.params, work.problem.frozen)[1:]
    workdir.write_artefact(workdir.path / find_method(config.method).file, *deployed(run, config.method, artefact))
    sums = {name: sum(line[name] for line in records) for name in ("bytes_up", "bytes_down", "wire_up", "wire_down")}
    final = {name: records[-1][name] for name in records[-1] if name.startswith(("test_", "validation_"))}
    sites = [{"name": name, "rows": roll.rows[number], "rounds": sum(name in line["sites"] for line in records)}
             for number, name in enumerate(roll.names)]  # fmt: skip
    summary = {"pilot": {"sites": sites, **sums}, "method": config.method, "rounds": config.rounds, **names,
               "round_0": {name: records[0][name] for name in final}, "final": final, "precision": arithmetic(),
               "notes": list(inputs.notes)}  # fmt: skip
    workdir.path.joinpath("summary.json").write_text(json.dumps(summary, indent=1) + "\n")
