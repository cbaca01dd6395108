"""Images to L2-normalised features, as fast as the devices compute them.

Threads decode and prepare the next batches while the devices work on one. Pixels travel as bytes and are rescaled and
normalised where they are used. Every batch has one shape (the last is filled up), so one program serves all, and no
more than a few batches are held at a time, whatever the number of images.

Axis letters: B batch, V views, D features, H W image, n images.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tqdm import tqdm

from cachefl_jax.clip.attention import fused_attention
from cachefl_jax.clip.images import Preparation, check_resized, is_shaped, shaped
from cachefl_jax.clip.prefetch import AHEAD, batches_of, prepared_batches
from cachefl_jax.clip.views import Views, view_pixels
from cachefl_jax.clip.weights import DTYPES
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import check_room

PIXELS = {"cpu": 16 * 224 * 224}  # in a batch, a device: what keeps its arithmetic busy without spilling its caches
PIXELS_OF_OTHERS = 256 * 224 * 224
PIECES = 4  # of a batch that go to an accelerator side by side: on an H200 2.7 times as fast as in one
MOST = 512  # images a batch, a device: with small images more only makes the last batch emptier
SHARE = 0.5  # of an accelerator's memory that the program of a batch that we choose may take


class Options(NamedTuple):
    """What encoding computes with."""

    batch_size: int = 0  # images a step, over all devices together; 0 = choose
    devices: tuple[jax.Device, ...] = ()  # none = all local ones; of a CPU the first, which uses every core
    dtype: str = "float32"  # of `weights.DTYPES`; what pixels are handed to the vision tower in


CHOSEN = Options()


def encode_images(encoder, images: Sequence, what: str = "images", options: Options = CHOSEN) -> np.ndarray:
    """Features [n, D] float32, L2-normalised, of `images`: PIL images or uint8 arrays [H, W] or [H, W, 3].

    Args:
        images: decoded by ``images[i]``, from several threads.
        what: what the progress bar and a refusal call them.

    Raises UsageError: as `image_blocks`."""
    return gathered(image_blocks(encoder, images, what, options=options), len(images))


def gathered(blocks: Iterator[np.ndarray], rows: int) -> np.ndarray:
    """Successive blocks [b, D] as one array [rows, D], held once."""
    first = next(blocks)
    features = np.empty((rows, first.shape[1]), first.dtype)
    row = 0
    for block in itertools.chain([first], blocks):
        features[row : row + len(block)] = block
        row += len(block)
    return features


def image_blocks(
    encoder, images: Sequence, what: str = "images", start: int = 0, options: Options = CHOSEN
) -> Iterator[np.ndarray]:
    """The features of images `start`, `start` + 1, ... in successive blocks [b, D] float32, L2-normalised.

    Raises UsageError: an image has another size than the others, or than the vision tower takes, once prepared, is too
    long for its width, or its feature is zero or not finite."""
    pixels_of, size = preparing(encoder.preparation, images, what)
    ready = (
        images
        if isinstance(images, np.ndarray) and images.ndim == 4 and is_shaped(images[0], encoder.preparation)
        else None
    )
    return blocks_of(encoder, images, Prepared(pixels_of, 1, size, ready), what, start, options)


def preparing(preparation: Preparation, images: Sequence, what: str) -> tuple[Callable, tuple[int, int]]:
    """(row -> its pixels [1, H, W, 3] uint8, (H, W)), as `image_blocks` takes and refuses them."""
    expected = prepared_size(preparation, images)

    def pixels_of(row: int) -> np.ndarray:
        image = images[row]
        check_resized(image, preparation, name_of(images, row, what))
        pixels = shaped(image, preparation)
        if pixels.shape[:2] != expected:
            found = f"{pixels.shape[0]} x {pixels.shape[1]} pixels"
            mend = "the checkpoint's preparation neither resizes to one size nor crops: bring images of one size"
            raise UsageError(name_of(images, row, what), found, f"{expected[0]} x {expected[1]}, as the first", mend)
        return pixels[None]

    return pixels_of, expected


def prepared_pixels(preparation: Preparation, images: Sequence, what: str) -> np.ndarray:
    """All images as the vision tower takes them but for `raw_image_features`'s normalisation: [n, H, W, 3] uint8.

    Raises UsageError: as `image_blocks`, or there is no memory for them."""
    pixels_of, size = preparing(preparation, images, what)
    shape = (len(images), *size, 3)
    check_room("method", f"one that reads images: {what}", math.prod(shape), "fewer rows, or a method of features")
    every = np.empty(shape, np.uint8)
    for chunk, pixels in prepared_batches(pixels_of, range(len(images)), MOST, (1, *size, 3)):
        every[chunk.start : chunk.stop] = pixels[: len(chunk), 0]
    return every


def averaged_blocks(
    encoder, images: Sequence, views: Views, what: str = "images", start: int = 0, options: Options = CHOSEN
) -> Iterator[np.ndarray]:
    """As `image_blocks`, the mean of every image's raw features over its random `views`, then L2-normalised.

    Each image is decoded once. Source: the public code of Tip-Adapter, arXiv 2111.03930.

    Raises UsageError: a feature is zero or not finite."""
    size = encoder.preparation.size or prepared_size(encoder.preparation, images)

    def pixels_of(row: int) -> np.ndarray:
        return view_pixels(images[row], row, views, size, encoder.preparation.resample)

    return blocks_of(encoder, images, Prepared(pixels_of, views.count, size), what, start, options)


def name_of(images: Sequence, row: int, what: str) -> str:
    """What a refusal calls an image: its number, and its file where the source names it."""
    name = getattr(images, "name", None)
    return f"{what}, image {row}" + (f" ({name(row)})" if callable(name) else "")


def prepared_size(preparation: Preparation, images: Sequence) -> tuple[int, int]:
    """(height, width) of the images once prepared: the preparation's, or the first image's where it leaves them be."""
    return preparation.size or shaped(images[0], preparation).shape[:2]


def check_batch(count: int, views: int, size: tuple[int, int], options: Options) -> None:
    """Refuses batches of `count` images in `views`, each of `size`, that do not fit into the host's memory.

    Raises UsageError: names the field that makes them so large."""
    field, value, mend = "clip.key_views", views, "lower it"
    if options.batch_size:
        field, value, mend = "clip.batch_size", count, "lower it, or 0 to let the encoder choose"
    check_room(field, str(value), (AHEAD + 2) * count * views * math.prod(size) * 3, mend)


class Prepared(NamedTuple):
    """Images as the vision tower takes them."""

    pixels_of: Callable[[int], np.ndarray]  # a row -> [V, H, W, 3] uint8
    views: int  # V
    size: tuple[int, int]  # H, W
    ready: np.ndarray | None = None  # all of them, [n, H, W, 3] uint8, where nothing is left to prepare


def blocks_of(
    encoder, images: Sequence, prepared: Prepared, what: str, start: int, options: Options
) -> Iterator[np.ndarray]:
    """The features of `images` from `start` on, [b, D].

    One batch is computed while the one before it is handed on."""
    pixels_of, views, size, ready = prepared
    check_size(encoder, size)
    rows, named = range(start, len(images)), functools.partial(name_of, images, what=what)
    devices = options.devices or default_devices()
    compute = ImageProgram(encoder, devices, jnp.dtype(DTYPES[options.dtype]))
    count = per_batch(options.batch_size, size, devices, views)
    if not options.batch_size:
        count = fitting(compute, count, views, size)
    check_batch(count, views, size, options)
    bar = tqdm(total=rows.stop, initial=rows.start, desc=f"encoding {what}", unit="image", leave=False, disable=None)
    made = (
        prepared_batches(pixels_of, rows, count, (views, *size, 3)) if ready is None else batches_of(ready, rows, count)
    )
    with bar, contextlib.closing(made) as batches:
        computed = ((chunk, compute(pixels.reshape(-1, *size, 3))) for chunk, pixels in batches)
        for (chunk, raw), _ in itertools.pairwise(itertools.chain(computed, [None])):
            yield finished(chunk, raw, views, named)
            bar.update(len(chunk))


def check_size(encoder, size: tuple[int, int]) -> None:
    """Refuses images, (height, width) once prepared, that the vision tower has no positions for."""
    due = encoder.image_size
    if due is not None and size != (due, due):
        found = f"a preparation that gives {size[0]} x {size[1]} pixels"
        mend = "take preprocessor_config.json and config.json from one checkpoint"
        raise UsageError("clip.checkpoint", found, f"{due} x {due}, which its vision tower takes", mend)


def finished(chunk: range, raw: jax.Array, views: int, named: Callable[[int], str]) -> np.ndarray:
    """Unit features [b, D] of the rows in `chunk` from raw ones [B * V, D], the filling left away."""
    features = np.asarray(raw, np.float64).reshape(-1, views, raw.shape[-1])[: len(chunk)].mean(axis=1)
    return unit_rows(features, lambda row: named(chunk[row]))


def unit_rows(features: np.ndarray, named: Callable[[int], str]) -> np.ndarray:
    """Rows of length 1, float32. Raises UsageError: a row has no direction; the row is called what `named` says."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    faulty = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(faulty):
        found = "a feature of zeros" if lengths[faulty[0]] == 0 else "a feature with NaN or infinity"
        mend = "look at this one; if all are so, at the checkpoint's weights and clip.dtype"
        raise UsageError(named(int(faulty[0])), found, "a finite feature that has a direction", mend)
    return (features / lengths).astype(np.float32)


def default_devices() -> tuple[jax.Device, ...]:
    devices = tuple(jax.local_devices())
    return devices[:1] if devices[0].platform == "cpu" else devices


def per_batch(batch_size: int, size: tuple[int, int], devices: Sequence[jax.Device], views: int) -> int:
    """Images a batch: `batch_size`, or chosen so that each device has enough pixels; a multiple of the devices."""
    if not batch_size:
        enough = PIXELS.get(devices[0].platform, PIXELS_OF_OTHERS)
        batch_size = min(MOST, max(1, enough // (math.prod(size) * views))) * len(devices)
    return -(-batch_size // len(devices)) * len(devices)


def pieces_for(devices: Sequence[jax.Device]) -> int:
    """In how many pieces a batch goes to the devices; a CPU reads it where it is."""
    return 1 if len(devices) > 1 or devices[0].platform == "cpu" else PIECES


def memory_of(device: jax.Device) -> int:
    """Bytes of an accelerator; 0 where it does not tell, and of a CPU."""
    statistics = {} if device.platform == "cpu" else device.memory_stats() or {}
    return statistics.get("bytes_limit", 0)


def fitting(program: "ImageProgram", count: int, views: int, size: tuple[int, int]) -> int:
    """Images a batch: `count`, or half of it again and again until the program takes no more than its share of the
    memory of each device."""
    memory, devices = memory_of(program.devices[0]), len(program.devices)
    while memory and count > devices and program.bytes_for((count * views, *size, 3)) > SHARE * memory:
        count = -(-count // 2 // devices) * devices
    return count


class ImageProgram:
    """Pixels [B, H, W, 3] uint8, spread over the devices by B, to raw features [B, D] float32."""

    def __init__(self, encoder, devices: Sequence[jax.Device], dtype: np.dtype):
        mesh = jax.make_mesh((len(devices),), ("images",), (AxisType.Auto,), devices=devices)
        self.spread, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["images"], []))
        self.devices, self.pieces, self.made = devices, pieces_for(devices), {}
        graph, state = nnx.split(encoder.model)
        state, numbers = jax.device_put((state, normalisation(encoder.preparation)), everywhere)
        self.given, self.how = (graph, state, numbers), {"dtype": dtype, "fused": devices[0].platform == "gpu"}

    def __call__(self, pixels: np.ndarray) -> jax.Array:
        pieces = jax.device_put(np.array_split(pixels, self.pieces), self.spread)
        made = self.made.get(pixels.shape)
        return made(*self.given, pieces) if made else raw_image_features(*self.given, pieces, **self.how)

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """What pixels of this shape take of a device besides the weights, as the compiled program says."""
        counts = [len(piece) for piece in np.array_split(np.empty(shape[0]), self.pieces)]
        pieces = [jax.ShapeDtypeStruct((count, *shape[1:]), jnp.uint8, sharding=self.spread) for count in counts]
        self.made = {shape: raw_image_features.lower(*self.given, pieces, **self.how).compile()}
        need = self.made[shape].memory_analysis()
        return need.temp_size_in_bytes + need.output_size_in_bytes + math.prod(shape) // len(self.devices)


@jax.jit(static_argnames=("dtype", "fused"))
def raw_image_features(graph, state, numbers, pieces, *, dtype, fused=False) -> jax.Array:
    """Raw features [B, D] of a batch's pieces, each [b, H, W, 3] uint8; `fused`: with cuDNN's attention where it has
    one."""
    given = normalised(jnp.concatenate(pieces), numbers).astype(dtype)
    with fused_attention(fused):
        return nnx.merge(graph, state).image_features(given).astype(jnp.float32)


def normalisation(preparation: Preparation) -> tuple[np.ndarray, ...]:
    """(scale [], mean [1, 1, 1, 3], deviation [1, 1, 1, 3]) of pixels, float32.

    Programs take them as arguments: XLA turns a division by a constant into a product, which rounds otherwise."""
    colours = (np.asarray(value, np.float32).reshape(1, 1, 1, 3) for value in (preparation.mean, preparation.std))
    return np.float32(preparation.scale), *colours


def normalised(pixels: jax.Array, numbers: tuple[jax.Array, ...]) -> jax.Array:
    """Pixels [B, H, W, 3] uint8 as the vision tower takes them, by the numbers of `normalisation`."""
    scale, mean, std = numbers
    return (pixels.astype(jnp.float32) * scale - mean) / std
