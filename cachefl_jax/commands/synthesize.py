"""Makes the synthetic set that a config names, or verifies the one that is there.

    python -m experiments.synthesize --config=experiments/configs/digits.py
    python -m experiments.synthesize agree A.json B.json

`agree` tells how far two reviewers agree, whose review.json these are: one line of JSON.
"""

import json
from collections.abc import Sequence

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define("config")


def main(words: Sequence[str]) -> None:
    if words:
        return agree(words)
    config = command.required("config")
    from cachefl_jax.config import resolve
    from cachefl_jax.config.synthesis import DRAWN
    from cachefl_jax.simulation.server_set import synthesis_request, texts_of
    from cachefl_jax.synthesis import obtain

    config = resolve(config)
    if config.synthesis.source not in DRAWN:
        mend = "--config.synthesis.source=diffusers; other sources need no drawing"
        raise UsageError("synthesis.source", config.synthesis.source, " | ".join(DRAWN), mend)
    drawn = obtain(synthesis_request(config, *texts_of(config.data)))
    print(f"{len(drawn.images)} images, digest {drawn.manifest['digest']}, sha256 {drawn.manifest['images_sha256']}")
    if drawn.manifest.get("redrawn"):
        print(f"{drawn.manifest['redrawn']} of them from further seeds: the pipeline refused the first")


def agree(words: Sequence[str]) -> None:
    """Prints how far two reviews agree. Raises UsageError: there are not two, or they are no reviews of one set."""
    from cachefl_jax.synthesis.review import agreement, read_review

    if words[0] != "agree" or len(words) != 3:
        raise UsageError("command line", " ".join(words), "agree A.json B.json", "name two review.json files")
    first, second = (read_review(path, "agree") for path in words[1:])
    print(json.dumps({"reviewers": [first.reviewer, second.reviewer], **agreement(first, second)._asdict()}))


def start() -> None:
    command.run(main, words=True)
