"""Text to images with any diffusers pipeline: the embedded one, a directory, or a model of the hub.

What the pipeline itself refuses is drawn again from further seeds, and never handed on as an image.

Axis letters: n images, B batch, H W image.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from cachefl_jax.data.images import one_colour
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.synthesis.pipeline import (
    check_lengths,
    find_pipeline,
    fitting_threads,
    load_pipeline,
    parameters,
    quiet,
    spare_memory,
)

REDRAWS = 8  # further seeds for an image that the pipeline refuses
Draw = Callable[[Sequence[str], Sequence[int]], tuple[np.ndarray, np.ndarray]]


class Drawing(NamedTuple):
    """How images are drawn."""

    steps: int  # of denoising
    guidance: float  # scale of guidance by the prompt; what a value means is the pipeline's affair
    height: int = 0  # of the images, in pixels; 0 = the pipeline's own
    width: int = 0
    dtype: str = "float32"  # what the pipeline computes in
    batch_size: int = 16  # images drawn at once, B
    file_format: str = "png"  # of the images' files


class Block(NamedTuple):
    """Images drawn at once, B of them."""

    images: np.ndarray  # [B, H, W, 3] uint8
    seeds: tuple[int, ...]  # [B], what each was drawn from in the end


def generate(pipeline: str, prompts: Sequence[str], seeds: Sequence[int], how: Drawing) -> np.ndarray:
    """Draws one image for every prompt and seed, as `draw_blocks`: uint8 [n, H, W, 3]."""
    return np.concatenate([block.images for block in draw_blocks(pipeline, prompts, seeds, how)])


def draw_blocks(
    pipeline: str, prompts: Sequence[str], seeds: Sequence[int], how: Drawing, start: int = 0
) -> Iterator[Block]:
    """Draws one image for every prompt and seed from `start` on, in successive blocks.

    An image depends on its own prompt and seed, and on `how`; on the batch that it was drawn in only by rounding. With
    a `start` that is a multiple of the batch size the batches, and so the bytes, are those of a drawing from 0 on.

    Args:
        pipeline: 'pocket', a directory, or a hub name.
        prompts: n texts.
        seeds: n seeds of the initial noise.
        start: the first image that is drawn.

    Raises UsageError: no such pipeline, one that does not draw from text or that refuses what it is asked, a prompt
    that it would cut off or that it draws nothing for, less than one step, or a batch that memory does not hold."""
    if how.steps < 1:
        raise UsageError("synthesis.steps", how.steps, "1 or more", "20 to 50 are usual")
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
    with contextlib.ExitStack() as stack:
        draw = stack.enter_context(drawing(pipeline, prompts, how))
        what = {"desc": "drawing images", "unit": "image", "leave": False, "disable": None}
        bar = stack.enter_context(tqdm(total=len(prompts), initial=start, **what))
        for first in range(start, len(prompts), how.batch_size):
            part = slice(first, first + how.batch_size)
            block = accepted(draw, prompts[part], seeds[part])
            bar.update(len(block.images))
            yield block


@contextlib.contextmanager
def drawing(pipeline: str, prompts: Sequence[str], how: Drawing) -> Iterator[Draw]:
    """Gives (B prompts, B seeds) -> images [B, H, W, 3] uint8, and which of them came to nothing, bool [B].

    `prompts`: all that will be drawn; their lengths are checked at once."""
    import torch

    with quiet():
        drawer = load_pipeline(find_pipeline(pipeline), how.dtype)
        check_lengths(drawer, prompts)
        options = options_of(drawer, how)
        spare_memory(drawer, how.height * how.width)

        def draw(some: Sequence[str], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            # A generator an image, on the CPU: a seed then means the same image whatever the device.
            noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            with refusing(pipeline, how, len(some)):
                output = drawer(list(some), generator=noise, **options)
            images, refused = read_output(output)
            check_size(images, how)
            return images, refused

        with fitting_threads(drawer):
            yield draw


def options_of(drawer, how: Drawing) -> dict:
    """What a pipeline is called with beside prompts and generators.

    Raises UsageError: it draws in one size alone, and another is asked for."""
    sides = {name: side for name, side in (("height", how.height), ("width", how.width)) if side}
    for name in sides.keys() - parameters(drawer).keys():
        raise UsageError(f"synthesis.{name}", sides[name], "0, the pipeline's own size", "leave it out")
    return {"num_inference_steps": how.steps, "guidance_scale": how.guidance, "output_type": "np", **sides}


@contextlib.contextmanager
def refusing(pipeline: str, how: Drawing, count: int) -> Iterator[None]:
    """Turns what a pipeline raises about what it was asked into one line."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        mend = "lower it, or synthesis.dtype=bfloat16, or draw smaller images"
        raise UsageError("synthesis.batch_size", count, "as many images as the device's memory holds", mend) from error
    except (ValueError, RuntimeError) as error:  # sizes, steps or a dtype that it does not take
        asked = f"{pipeline} ({how.steps} steps, {how.height} x {how.width}, {how.dtype}: {error})"
        allowed = "steps, a size and a dtype that the pipeline takes"
        raise UsageError("synthesis.pipeline", asked, allowed, "change what it names") from error


def check_size(images: np.ndarray, how: Drawing) -> None:
    """Refuses images of another size than was asked for: some pipelines round it."""
    for name, asked, drawn in (("height", how.height, images.shape[1]), ("width", how.width, images.shape[2])):
        if asked not in (0, drawn):
            raise UsageError(f"synthesis.{name}", asked, f"what the pipeline draws, {drawn} here", f"take {drawn}")


def read_output(output) -> tuple[np.ndarray, np.ndarray]:
    """(images [B, H, W, 3] uint8, which of them are none, bool [B]) of what a pipeline returns.

    A safety checker that objects to an image leaves it black. An image of one colour, or with numbers that are none,
    says nothing of its prompt either."""
    raw = np.asarray(output.images, np.float32)
    broken = ~np.isfinite(raw).all(axis=(1, 2, 3))
    images = np.rint(255 * np.clip(np.nan_to_num(raw), 0, 1)).astype(np.uint8)
    flagged = np.array(getattr(output, "nsfw_content_detected", None) or [False] * len(images), bool)
    return images, flagged | broken | one_colour(images)


def accepted(draw: Draw, prompts: Sequence[str], seeds: Sequence[int]) -> Block:
    """A block in which every image is one: what came to nothing is drawn again from the next seed, and the next.

    Raises UsageError: an image came to nothing from every seed; its prompt is named."""
    images, refused = draw(prompts, seeds)
    seeds = list(seeds)
    for _ in range(REDRAWS):
        rows = np.flatnonzero(refused).tolist()
        if not rows:
            return Block(images, tuple(seeds))
        for row in rows:
            seeds[row] += 1
        images[rows], refused[rows] = draw([prompts[row] for row in rows], [seeds[row] for row in rows])
    if not refused.any():
        return Block(images, tuple(seeds))
    blocked = dict.fromkeys(f'"{prompts[row]}"' for row in np.flatnonzero(refused))
    found = f"no image, from {REDRAWS + 1} seeds, of {listing(blocked)}"
    allowed = "prompts that the pipeline's safety checker lets pass, and whose images are not of one colour"
    mend = "word synthesis.prompts or the names of these classes otherwise, or name another pipeline or synthesis.dtype"
    raise UsageError("synthesis.prompts", found, allowed, mend)
