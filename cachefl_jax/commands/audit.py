"""Attacks a finished run as a curious server could, and says what that came to beside what the run promises.

    python -m experiments.audit --workdir=runs/digits [--parts=canaries,membership] [--trials=1000]

Writes audit.json and audit.html into the run's folder and prints the path of the page. Each part asks for another
thing; docs/audits.md says what they measure.
"""

import pathlib

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define("workdir")
if "parts" not in flags.FLAGS:
    flags.DEFINE_list("parts", None, "which attacks, separated by commas; all by default")
    flags.DEFINE_integer("trials", 1000, "runs with a canary, and as many without", lower_bound=10)
    flags.DEFINE_integer("shadows", 64, "federations that are trained on random halves of the rows", lower_bound=4)
    flags.DEFINE_integer("audit_seed", 0, "what the attacks draw by", lower_bound=0)


def main() -> None:
    workdir, asked = pathlib.Path(command.required("workdir")), flags.FLAGS.parts
    # Imported late: what is wrong with the flags is said at once, not after JAX has loaded.
    from cachefl_jax.privacy.audit.part import Settings
    from cachefl_jax.simulation.audit import PARTS, audit

    names = tuple(PARTS) if asked is None else tuple(dict.fromkeys(asked))
    for name in names or ("",):
        if name not in PARTS:
            raise UsageError("--parts", name, ", ".join(PARTS), "name some of these, or leave the flag out")
    values = (flags.FLAGS[name].value for name in ("trials", "shadows", "audit_seed"))
    print(audit(workdir, names, Settings(*values)))


def start() -> None:
    command.run(main)
