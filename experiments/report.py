"""Writes report.html from what a run left behind; several runs share one page, which goes to --output.

    python -m experiments.report --workdir=DIR
    python -m experiments.report --workdir=DIR --workdir=DIR [...] --output=comparison.html

Prints the path of the page.
"""

import pathlib

from absl import flags

from experiments import command

command.define_path("workdir", "folder of a run; give it again to compare several runs", several=True)
command.define_path("output", "where the page goes: an .html file or a folder; several runs need it")


def main() -> None:
    workdirs = [pathlib.Path(workdir) for workdir in command.required("workdir")]
    output = flags.FLAGS.output and pathlib.Path(flags.FLAGS.output)
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.report import write_report

    print(write_report(workdirs, output))


if __name__ == "__main__":
    command.run(main)
