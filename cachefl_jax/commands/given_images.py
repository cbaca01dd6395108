"""Flags and files of the commands that ask a run's model about images."""

import sys
from collections.abc import Sequence

from absl import flags

from cachefl_jax.errors import UsageError


def define_flags() -> None:
    flags.DEFINE_string("checkpoint", None, "where the run's CLIP checkpoint lies now; by default where it lay then")
    flags.DEFINE_integer("nearest", 3, "how many of a cache's nearest keys are told", lower_bound=0)
    flags.DEFINE_enum("broken", "stop", ["stop", "skip"], "what to do about images that cannot be decoded")


def sound_files(paths: Sequence[str]) -> list[str]:
    """The image files among `paths` and below those that are folders. What cannot be decoded is told one a line, and
    ends the command but for --broken=skip.

    Raises UsageError: a path is not there, a file is no image, or a folder holds none."""
    from cachefl_jax.deploy.pictures import broken_images, find_images

    files = find_images(paths)
    faults, skips = broken_images(files), flags.FLAGS.broken == "skip"
    for why in faults.values():
        print(UsageError("image", why, "an image that can be decoded", "replace it, or --broken=skip")
              if not skips else f"left out: {why}", file=sys.stderr)  # fmt: skip
    if faults and (not skips or len(faults) == len(files)):
        sys.exit(2)
    return [file for row, file in enumerate(files) if row not in faults]
