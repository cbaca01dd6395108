"""The proof of concept: folders of sites in, a decision and its report out.

    python -m experiments.poc --sites=FOLDER --workdir=DIR [--synthetic=FOLDER] [--current=FILE.csv] [--minutes=10]

FOLDER holds site/class/images, or class/site/images. Every site is divided by class into training, validation and test
images, with near-duplicates on one side. --synthetic names class folders of generated images for the server; without
them real images are set apart, and the report says so. --current is a CSV file (file, prediction) of the model that you
have now; DIR/test_files.csv lists the images that it is asked of. The report is DIR/report.html, its numbers
DIR/decision.json; DIR/config.py repeats it, changed as you like: --config=DIR/config.py. The same command again goes on
where it was stopped.
"""

import pathlib
import re
import sys

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define("config", "workdir")
if "sites" not in flags.FLAGS:
    command.define_path("sites", "the folder of the sites' folders (data.path)")
    command.define_path("synthetic", "class folders of the server's images (synthesis.path)")
    command.define_path("current", "predictions of the model that you have now, a CSV file (poc.current)")
    flags.DEFINE_float("minutes", None, "to plan for (poc.minutes)")


def main() -> None:
    workdir, config = pathlib.Path(command.required("workdir")), asked()
    if not config.data.path:
        raise UsageError("--sites", "nothing", "the folder that holds a folder of each site", "add --sites=FOLDER")
    from cachefl_jax.poc.file import write_config
    from cachefl_jax.poc.run import run_poc

    decision = run_poc(config, workdir)
    write_config(config, workdir)
    verdict = decision["verdict"]
    print(verdict["sentence"], *verdict["caveat"], *verdict["more"], sep="\n")
    print(f"report: {(workdir / 'report.html').absolute()}")


def asked():
    """The config that the command line asks for."""
    values, config = flags.FLAGS, flags.FLAGS.config
    if values.sites is not None:
        config.data.path = values.sites
    if values.synthetic is not None:
        config.synthesis.source, config.synthesis.path = "image_folder", values.synthetic
    if values.current is not None:
        config.poc.current = values.current
    if values.minutes is not None:
        config.poc.minutes = values.minutes
    if config.clip.checkpoint == "pocket" and not config.clip.templates:
        config.clip.templates = ("{}",)  # its text tower has 16 tokens
    return config


def start() -> None:
    if not any(re.match("--?config[= ]", f"{word} ") for word in sys.argv[1:]):
        sys.argv.insert(1, "--config=poc")  # so that --config.NAME=VALUE may stand alone
    command.run(main)
