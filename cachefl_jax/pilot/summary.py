"""What a pilot leaves once its rounds are done: the artefact, and a summary.json as a run has it."""

import statistics

from ml_collections import ConfigDict

from cachefl_jax import costs
from cachefl_jax.config.rows import row_of
from cachefl_jax.federation import traffic
from cachefl_jax.methods import find_method
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.pilot.roll import Roll
from cachefl_jax.pilot.rounds import ServerWork
from cachefl_jax.precision import arithmetic
from cachefl_jax.report.units import readable_bytes, readable_seconds
from cachefl_jax.simulation.entries import result, told_of
from cachefl_jax.simulation.regimes import Run, artefact_of, deployed
from cachefl_jax.simulation.scores import rounds_to
from cachefl_jax.simulation.train import describe

WAYS = ("bytes_up", "bytes_down", "wire_up", "wire_down")


def write_artefact(run: Run, work: ServerWork, rows: int) -> None:
    """The file that a user deploys; `rows` of all sites were trained on."""
    config = run.config
    arrays, told = deployed(run, config.method, artefact_of(run, config.method, work.state.params, work.frozen)[1:])
    told["data"]["rows"] = rows  # and not those of the server's source, which nobody holds
    run.workdir.write_artefact(run.workdir.path / find_method(config.method).file, arrays, told)


def write_summary(run: Run, work: ServerWork, roll: Roll, records: list[dict], scores: dict[str, dict]) -> None:
    """summary.json. `scores` are the figures of "zero_shot", where there are texts, "round_0" and "federated"."""
    config, inputs = run.config, run.inputs
    sums = {way: sum(line[way] for line in records) for way in WAYS}
    sites = [{"name": name, "rows": roll.rows[number], "rounds": sum(name in line["sites"] for line in records)}
             for number, name in enumerate(roll.names)]  # fmt: skip
    held = {"train": sum(site["rows"] for site in sites), "clients": len(sites)}
    run.workdir.write_json(run.workdir.summary, {
        "dataset": describe(config, inputs) | held,
        "method": row_of(config.method, config.method).name,
        "methods": methods_of(config, work, records, scores),
        "whole_model": inputs.whole_model,
        "precision": arithmetic(),
        "notes": [*inputs.notes, *notes_on(records, sums)],
        "pilot": {"sites": sites, **sums},
    })  # fmt: skip


def methods_of(config: ConfigDict, work: ServerWork, records: list[dict], scores: dict[str, dict]) -> dict[str, dict]:
    """The entries of zero-shot CLIP, round 0 and the rounds, as a run's summary has them."""
    method, (up, down) = find_method(config.method), traffic(work.federation, work.params, work.problem)
    entries = {}
    if "zero_shot" in scores:
        entries["zero_shot"] = result(scores["zero_shot"] | told_of(row_of(config.method, "zero_shot"), zero_shot))
    start, last = row_of(config.method, "cache_init"), row_of(config.method, config.method)
    sites = work.problem.clients.count
    entries[start.name] = result(scores["round_0"] | told_of(start, method), (0, down, down * sites))
    evaluated = [line for line in records if line["test_accuracy"] is not None]
    told = told_of(last, method) | {
        "rounds_to": rounds_to(*([line[name] for line in evaluated] for name in ("round", "test_accuracy")))
    }
    total = sum(line[way] for line in records for way in WAYS[:2])
    flops = costs.round_flops(work.federation.local, work.params, work.problem, work.rows)
    entries[last.name] = result(scores["federated"] | told, (up, down, total), rounds=config.rounds, flops=flops)
    return entries


def notes_on(records: list[dict], sums: dict[str, int]) -> list[str]:
    """What a reader has to know of a pilot's figures, beside those of a run."""
    notes = [
        "Between real sites: no site told the server of which classes its rows are, so there are no figures over the "
        "clients.",
        f"The arrays in Flower's messages came to {readable_bytes(sums['wire_up'])} up and "
        f"{readable_bytes(sums['wire_down'])} down, with the header of each.",
    ]
    if seconds := [line["seconds"] for line in records[1:]]:
        told = readable_seconds(statistics.median(seconds))
        notes.append(f"A round took {told} (median), the network and the wait for the slowest site included.")
    return notes
