"""Attacks on a finished run, part by part: audit.json and audit.html beside it."""

import pathlib

import jax

from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.audit.canaries import canaries
from cachefl_jax.privacy.audit.membership import membership
from cachefl_jax.privacy.audit.part import Context, Part, Section, Settings
from cachefl_jax.privacy.audit.promise import promise
from cachefl_jax.report.page import fill, write_page
from cachefl_jax.simulation.finished import rebuild, stored
from cachefl_jax.simulation.leak_parts import inversion
from cachefl_jax.simulation.privacy import budget_of, private
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.storage.locks import folder_lock

PARTS: dict[str, Part] = {"promise": promise, "canaries": canaries, "membership": membership, "inversion": inversion}


def audit(path: pathlib.Path, names: tuple[str, ...], settings: Settings) -> pathlib.Path:
    """Runs the parts on the folder's run and writes what they found; returns the page.

    Raises UsageError: the folder holds no finished run whose clients send updates, its data are others by now, or a
    part needs what is not there. Nothing has been written then."""
    workdir = Workdir(path)
    context = open_run(workdir, settings)
    found = {name: PARTS[name](context) for name in names}
    record = {"settings": settings._asdict(), "parts": {name: record for name, (record, _) in found.items()}}
    page = render(workdir.path.resolve().name, context, [section for _, section in found.values()])
    with folder_lock(workdir.path):
        workdir.write_json(workdir.audit, record)
        write_page(workdir.audit_page, page)
    return workdir.audit_page


def open_run(workdir: Workdir, settings: Settings) -> Context:
    """The run of a folder. Raises UsageError: as `audit`."""
    config = stored(workdir)
    if own_row(config) is None:
        allowed = "a run that compares config.method's own federation: else no client sent an update"
        raise UsageError("compare", ", ".join(config.compare) or "nothing", allowed, f"add {config.method} to it")
    if not workdir.finished(config):
        raise UsageError("--workdir", f"{workdir.path} (not finished)", "a finished run", "repeat the run's command")
    run = rebuild(workdir, config)
    if run.learner.method.closed_form is not None or not jax.tree.leaves(run.learner.params):
        allowed = "a method whose clients train and send updates round by round"
        raise UsageError("method", run.learner.method.label, allowed, "audit a run of another method")
    budget = budget_of(run.config) if private(run.config) else None
    return Context(run.config, run.learner, run.inputs, run.after(workdir, run.config.rounds), budget, settings)


def render(name: str, context: Context, sections: list[Section]) -> str:
    """The page as HTML."""
    return fill(
        "audit", name=name, title=f"What a curious server learns of {name}", method=context.learner.method.label,
        data=context.config.data.name, sections=sections,
    )  # fmt: skip
