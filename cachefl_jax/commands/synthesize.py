"""Makes the synthetic set that a config names, or verifies the one that is there.

python -m experiments.synthesize --config=experiments/configs/digits.py
"""

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define("config")


def main() -> None:
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


def start() -> None:
    command.run(main)
