"""A pilot from its config to its folder: who comes, the rounds, and the files that a run leaves."""

import pathlib
import time

from flwr.serverapp import Grid
from ml_collections import ConfigDict

from cachefl_jax.data.card import unknown_cells
from cachefl_jax.data.suite import folder_names_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import traffic
from cachefl_jax.methods import Method, find_method
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.pilot.limits import agreed_fields, of_sites
from cachefl_jax.pilot.messages import setup_record
from cachefl_jax.pilot.roll import Limits, Roll
from cachefl_jax.pilot.rounds import ServerWork
from cachefl_jax.pilot.summary import write_artefact, write_summary
from cachefl_jax.simulation.build import NotFinite, Scorer, finite, scorer
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.prepare import Inputs, prepare
from cachefl_jax.simulation.regimes import Run
from cachefl_jax.simulation.scores import own_rows, scalars
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.train import untuned_cache
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.run_files import UNSCORED


def serve(grid: Grid, config: ConfigDict, path: pathlib.Path, pilot: dict) -> None:
    """All rounds with the sites that `pilot` names; writes into the folder `path`.

    Args:
        grid: Flower's connection to the sites.
        config: the server's, resolved; as `inputs_of_server` takes it.
        pilot: {"sites": names, "wait": seconds for all to come, "round_seconds", "late_seconds": `Limits` of a round}.

    Raises UsageError: sites do not come, or none is left; or the rounds do not stay finite."""
    use_engine(config.engine)
    inputs, workdir = inputs_of_server(config), Workdir(path)

    def say(line: str) -> None:
        with (path / "pilot.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    workdir.write_artefact(workdir.cache_init, *untuned_cache(config, inputs, workdir))
    weights = inputs.parts.get("encoder", "")
    asked = setup_record(inputs.server, agreed_fields(config), weights, folder_names_of(config.data))
    roll = Roll(grid, pilot["sites"], asked, say)
    done = None
    try:
        roll.wait_for_all(pilot["wait"])
        run = Run(config, inputs, workdir)
        work = ServerWork(config, inputs, [roll.rows[number] for number in range(len(roll.names))])
        records, scores = rounds(run, work, roll, Limits(pilot["round_seconds"], pilot["late_seconds"]))
        write_artefact(run, work, sum(roll.rows.values()))
        write_summary(run, work, roll, records, scores)
        done = config.rounds
    finally:
        roll.farewell(done)


def rounds(run: Run, work: ServerWork, roll: Roll, limits: Limits) -> tuple[list[dict], dict[str, dict]]:
    """(a line of metrics a round from round 0, the figures that `write_summary` takes).

    Raises UsageError: as `serve`."""
    config, workdir = run.config, run.workdir
    score, scores = scorer_of(run, find_method(config.method)), {}
    if run.inputs.bank.text_features is not None:
        scores["zero_shot"] = scorer_of(run, zero_shot)(())
    scores["round_0"] = scores["federated"] = finite(score(work.params), diverged(config, "round 0"))
    records = [{"round": 0, **line_of_scores(scores["round_0"]), "train_loss": None, "bytes_up": 0, "bytes_down": 0,
                "wire_up": 0, "wire_down": 0, "seconds": 0.0, "cohort": 0, "sites": []}]  # fmt: skip
    workdir.append_metrics(records)
    with workdir.open_checkpoints() as save:
        for number in range(1, config.rounds + 1):
            records.append(one_round(run, work, roll, number, limits))
            last = number == config.rounds
            if number % config.eval_every == 0 or last:
                scores["federated"] = finite(score(work.state.params), diverged(config, f"round {number}"))
                records[-1] |= line_of_scores(scores["federated"])
            workdir.append_metrics(records[-1:])
            roll.say(line_of(records[-1], config.rounds))
            if number % config.checkpoint_every == 0 or last:
                save(number, work.state)
    return records, scores


def one_round(run: Run, work: ServerWork, roll: Roll, number: int, limits: Limits) -> dict:
    """A round's line of metrics.jsonl, before it is evaluated. Bytes are counted as the simulator does, `wire` as the
    messages' arrays.

    Raises UsageError: none of the sites that were asked answered, or the params did not stay finite."""
    began, asked = time.monotonic(), work.asked()
    heard = roll.ask(asked, work.leaves(), number - 1, limits)
    if asked and not heard.answers:
        names = ", ".join(roll.names[site] for site in asked)
        allowed = "one or more sites in every round"
        raise UsageError("sites", f"none of {names} answered in round {number}", allowed, "begin anew")
    told = work.close(heard.answers)
    if not bool(told.finite):
        raise diverged(run.config, f"round {number}")
    up, down = traffic(work.federation, work.params, work.problem)
    clients = int(told.clients)
    return {
        "round": number, **UNSCORED, "train_loss": float(told.train_loss) if clients else None,
        "bytes_up": up * clients, "bytes_down": down * clients, "wire_up": heard.up, "wire_down": heard.down,
        "cohort": clients, "sites": [roll.names[site] for site in sorted(heard.answers)],
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def inputs_of_server(config: ConfigDict) -> Inputs:
    """What the server brings: class names, texts, the synthetic set, and rows to test on. Its training rows, which a
    source may have, are held by nobody.

    Raises UsageError: as `prepare`."""
    config = config.copy_and_resolve_references()
    config.cohort = 0
    return prepare(of_sites(config, 1))


def scorer_of(run: Run, method: Method) -> Scorer:
    """params -> figures on the server's own rows. Those over the clients are the simulator's alone: no site tells the
    server of which classes its rows are."""
    bank = run.inputs.bank
    found = scorer(run.config, method, run.inputs, Shared())
    return found._replace(
        own=own_rows(unknown_cells(run.config.partition.clients, bank.classes), bank.test.labels, None)
    )


def line_of_scores(scores: dict) -> dict:
    """What of the figures a line of metrics.jsonl has."""
    return {name: value for name, value in scalars(scores).items() if not name.startswith("clients_")}


def diverged(config: ConfigDict, what: str) -> NotFinite:
    """The refusal of params that have not stayed finite."""
    allowed = f"a rate at which training stays finite ({what} did not)"
    return NotFinite("local.learning_rate", config.local.learning_rate, allowed, "lower it, in a new folder")


def line_of(record: dict, rounds: int) -> str:
    """A round in words."""
    test = record["test_accuracy"]
    scored = "" if test is None else f", test {test:.1%}"
    return f"round {record['round']} of {rounds}: {record['cohort']} sites{scored}, {record['seconds']:.1f} s"
