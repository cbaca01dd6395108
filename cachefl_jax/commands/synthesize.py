"""Makes the server's set step by step, or what a config names of it.

    python -m experiments.synthesize --config=experiments/configs/digits.py
    python -m experiments.synthesize --config=experiments/configs/digits.py --workdir=runs/set [--until=look] [--copy]
    python -m experiments.synthesize verify --config=experiments/configs/digits.py [--redraw=64]
    python -m experiments.synthesize agree A.json B.json

Without --workdir the images are drawn into the store, where every run of this config finds them. With it the steps go
on: prompts, draw, score, select, measure, look, account. DIR then holds prompts.json, scores.csv, selection.json,
measures.json, set.html (where a person marks what is wrong), provenance.jsonl, datasheet.html and summary.json; with
--copy also the images and croissant.json. What the store has is not computed again.

`verify` computes every hash of the drawn set again, and with --redraw draws so many of its images again and compares
pixels; what differs is told, and ends with status 1. `agree` tells how far two reviewers agree, whose review.json these
are: one line of JSON.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

STEPS = ("prompts", "draw", "score", "select", "measure", "look", "account")  # of simulation.set_steps, in order

command.define("config", "workdir")


def define_flags() -> None:
    flags.DEFINE_enum("until", "account", STEPS, "the last step that is done; needs --workdir")
    flags.DEFINE_boolean("copy", False, "account: a copy of the images, and croissant.json beside it")
    flags.DEFINE_integer("redraw", 0, "verify: images to draw again, in the whole batches that they lie in", 0)


def main(words: Sequence[str]) -> None:
    if words == ["verify"]:
        return verify()
    if words:
        return agree(words)
    if flags.FLAGS["redraw"].present:
        raise UsageError("--redraw", flags.FLAGS.redraw, "a flag beside verify", "synthesize verify --redraw=N")
    config, workdir = command.required("config"), flags.FLAGS.workdir
    from cachefl_jax.config import resolve

    config = resolve(config)
    if workdir:
        return steps(config, pathlib.Path(workdir))
    for name in ("until", "copy"):
        if flags.FLAGS[name].present:
            raise UsageError(f"--{name}", flags.FLAGS[name].value, "a flag beside --workdir", "add --workdir=DIR")
    draw(config)


def steps(config, workdir: pathlib.Path) -> None:
    """All steps up to --until. Raises UsageError: a bank has no images."""
    if config.synthesis.source == "bank":
        allowed = "a source of images: a bank's synthetic rows are features already"
        raise UsageError("synthesis.source", "bank", allowed, "name a config of images, such as --config=digits")
    from cachefl_jax.simulation.environment import settle
    from cachefl_jax.simulation.set_steps import run_steps

    settle()
    run_steps(config, workdir, flags.FLAGS.until, flags.FLAGS.copy)


def draw(config) -> None:
    """The images alone. Raises UsageError: this config draws none."""
    from cachefl_jax.synthesis import obtain
    from cachefl_jax.synthesis.records import drawn_words

    print(drawn_words(obtain(request_of(config)).manifest))


def request_of(config):
    """What a config has drawn. Raises UsageError: nothing."""
    from cachefl_jax.config.synthesis import DRAWN
    from cachefl_jax.simulation.server_set import synthesis_request, texts_of

    if config.synthesis.source not in DRAWN:
        mend = "--config.synthesis.source=diffusers; or --workdir=DIR, for the other steps"
        raise UsageError("synthesis.source", config.synthesis.source, " | ".join(DRAWN), mend)
    return synthesis_request(config, *texts_of(config.data))


def verify() -> None:
    """Prints what is wrong with a drawn set; status 1 where anything is. Raises UsageError: it is not drawn yet."""
    config = command.required("config")
    from cachefl_jax.config import resolve
    from cachefl_jax.synthesis import verify as verification
    from cachefl_jax.synthesis.pipeline import find_pipeline, weights_digest
    from cachefl_jax.synthesis.request import request_digest
    from cachefl_jax.synthesis.store import folder_of

    request = request_of(resolve(config))
    folder = folder_of(request_digest(request, weights_digest(find_pipeline(request.pipeline))))
    if not folder.is_dir():
        raise UsageError("synthesis", f"{folder} (not drawn yet)", "a drawn set", "the same without verify draws it")
    report = verification.verify(folder, flags.FLAGS.redraw)
    for fault in report.faults:
        print(f"{folder}: {fault}")
    print(verification.in_words(report))
    if report.faults:
        sys.exit(1)


def agree(words: Sequence[str]) -> None:
    """Prints how far two reviews agree. Raises UsageError: there are not two, or they are no reviews of one set."""
    from cachefl_jax.synthesis.review import agreement, read_review

    if words[0] != "agree" or len(words) != 3:
        raise UsageError("command line", " ".join(words), "agree A.json B.json", "name two review.json files")
    first, second = (read_review(path, "agree") for path in words[1:])
    print(json.dumps({"reviewers": [first.reviewer, second.reviewer], **agreement(first, second)._asdict()}))


def start() -> None:
    define_flags()
    command.run(main, words=True)
