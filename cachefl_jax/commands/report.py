"""Writes report.html from what a run or a sweep left behind; several runs share one page, which goes to --output.

    python -m experiments.report --workdir=DIR
    python -m experiments.report --workdir=DIR --workdir=DIR [...] --output=comparison.html

Prints the path of the page.
"""

import pathlib

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define_path("workdir", "folder of a run or of a sweep; give it again to compare several runs", several=True)
command.define_path("output", "where the page goes: an .html file or a folder; several runs need it")


def main() -> None:
    workdirs = [pathlib.Path(workdir) for workdir in command.required("workdir")]
    output = flags.FLAGS.output and pathlib.Path(flags.FLAGS.output)
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.report import write_report
    from cachefl_jax.simulation.sweep_report import write_sweep

    if poc := next((workdir for workdir in workdirs if (workdir / "poc.json").exists()), None):
        from cachefl_jax.poc.again import draw_again

        print(draw_again(poc, len(workdirs), output))
        return
    if study := next((workdir for workdir in workdirs if (workdir / "study.json").exists()), None):
        mend = "open its study.html, which the study's own command writes"
        raise UsageError("--workdir", f"{study} (a study's)", "folders of runs, or one sweep's", mend)
    sweeps = [workdir for workdir in workdirs if (workdir / "sweep.json").exists()]
    if not sweeps:
        print(write_report(workdirs, output))
    elif len(workdirs) == 1:
        print(write_sweep(workdirs[0], output))
    else:
        allowed = "folders of runs, or one sweep's"
        raise UsageError("--workdir", f"{sweeps[0]} (a sweep's) beside others", allowed, "name the sweep without them")


def start() -> None:
    command.run(main)
