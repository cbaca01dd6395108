"""Makes the synthetic set that a config names, or verifies the one that is there.

python -m experiments.synthesize --config=experiments/configs/digits.py
"""

from cachefl_jax.errors import UsageError
from experiments import command

command.define("config")


def main() -> None:
    config = command.required("config")
    from cachefl_jax.config import resolve
    from cachefl_jax.data import digits
    from cachefl_jax.synthesis import obtain
    from experiments.prepare import synthesis_request

    config = resolve(config)
    if config.synthesis.source == "bank":
        mend = "data.name=digits draws one; a bank brings its own"
        raise UsageError("synthesis.source", "bank", "pocket | diffusers", mend)
    drawn = obtain(synthesis_request(config, digits.CLASS_NAMES, digits.TEMPLATES))
    print(f"{len(drawn.images)} images, digest {drawn.manifest['digest']}, sha256 {drawn.manifest['images_sha256']}")


if __name__ == "__main__":
    command.run(main)
