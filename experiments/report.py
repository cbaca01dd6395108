"""Writes report.html from what runs left behind; several runs share one page, in the first run's folder.

    python -m experiments.report --workdir=DIR [--workdir=DIR ...]

Prints the path of the page.
"""

import pathlib

from experiments import command

command.define_path("workdir", "folder of a run; give it again to compare several runs", several=True)


def main() -> None:
    workdirs = [pathlib.Path(workdir) for workdir in command.required("workdir")]
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.report import write_report

    print(write_report(workdirs))


if __name__ == "__main__":
    command.run(main)
