"""Compares methods fairly: settings x rows x seeds, every row tuned on validation by one budget, told with its error.

    python -m experiments.study --config=experiments/configs/studies/demo.py --workdir=runs/study

Rows are the config's `compare`, settings what its `study(add)` adds (without one, the config as it is is the only one).
Each row is tuned by study.budget points of its method's search space on the validation rows of study.tuning_seeds
seeds; what is chosen runs by study.seeds seeds, and its test accuracy is told: results.csv, .json, .tex and .md,
figures, chosen.json and study.html in DIR. The same command again goes on where it was stopped.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from cachefl_jax.commands import command
from cachefl_jax.commands.named_flags import config_path
from cachefl_jax.commands.sweep import added
from cachefl_jax.study.plan import study_of
from cachefl_jax.unused import unused

command.define("config", "workdir")


def main() -> None:
    base, workdir = command.required("config"), pathlib.Path(command.required("workdir"))
    file, *_ = config_path(config_flags.get_config_filename(flags.FLAGS["config"])).split(":", 1)
    study = study_of(base, added(file, "study") or [{}])
    for note in dict.fromkeys(note for setting in study.settings for note in unused(setting.config)):
        print(note, file=sys.stderr)
    from cachefl_jax.study.run import run_study

    run_study(study, workdir)
    print((workdir / "results.md").read_text(encoding="utf-8").strip())
    print(f"report: {(workdir / 'study.html').absolute()}")


def start() -> None:
    command.run(main)
