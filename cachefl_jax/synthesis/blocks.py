"""What is drawn of a set that is not whole yet: a file a block, so that a drawing that was killed goes on.

Axis letters: B images of a block, H W image.
"""

import pathlib

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import read_arrays
from cachefl_jax.storage.files import write_arrays
from cachefl_jax.storage.home import writing
from cachefl_jax.synthesis.generator import BATCH, Block

NAME = "block-{}.npz"


def blocks_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of all blocks."""
    return sorted(folder.glob(NAME.format("*")))


def write_block(folder: pathlib.Path, number: int, block: Block) -> None:
    """Writes a block, whole or not at all. Raises UsageError: the folder cannot be written."""
    with writing(folder.parent):
        arrays = {"images": block.images, "seeds": np.array(block.seeds, np.int64)}
        write_arrays(folder / NAME.format(f"{number:06d}"), arrays)


def read_blocks(folder: pathlib.Path, count: int) -> list[Block]:
    """The sound blocks of a set of `count` images, up to the first that is missing or damaged."""
    done = []
    for start in range(0, count, BATCH):
        try:
            arrays = read_arrays("synthesis", folder / NAME.format(f"{len(done):06d}"), ("images", "seeds"))
            images, seeds = arrays["images"], arrays["seeds"].tolist()
        except (UsageError, KeyError):
            break
        if not len(images) == len(seeds) == min(BATCH, count - start):
            break
        done.append(Block(images, tuple(seeds)))
    return done
