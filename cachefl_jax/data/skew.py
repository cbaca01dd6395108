"""Feature skew: each client sees its training images in its own way, as if through a camera of its own.

Strengths differ from client to client, as those of the noise in Li et al., arXiv 2102.02079, section IV.
Only training images change. The test and validation images stay as they are: accuracy is that on the world as it is.
What a client does to an image depends on (seed, client, row) alone, not on when or how often the image is asked for.
Axis letters: C clients, n rows, H W image.
"""

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from cachefl_jax.clip.views import as_picture
from cachefl_jax.config.partition import CHANGES
from cachefl_jax.data.images import Images, LabelledImages
from cachefl_jax.data.partition import Partition, partition_hash
from cachefl_jax.errors import UsageError
from cachefl_jax.named import find

VERSION = 1  # of the formulas below: part of the fingerprint, raised when one of them changes
AMOUNTS, KINDS, NOISE = 2, 3, 4  # streams of the seed; 0 deals the rows out, 1 takes the shots


def brightness(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Every value times 0.2 (`amount` -1) to 1.8 (`amount` 1), cut off at white."""
    return ImageEnhance.Brightness(image).enhance(1 + 0.8 * amount)


def contrast(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Distances to the mean grey times 0.2 to 1.8."""
    return ImageEnhance.Contrast(image).enhance(1 + 0.8 * amount)


def blur(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Gaussian, its radius (standard deviation) up to 5% of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(0.05 * abs(amount) * min(image.size)))


def noise(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Gaussian, drawn anew for each value, its standard deviation up to a quarter of the range."""
    pixels = np.asarray(image, np.float32)
    noisy = pixels + np.float32(64 * abs(amount)) * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def rotation(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """By up to 45 degrees either way about the centre; the corners take the mean colour of the border."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = tuple(int(value) for value in np.round(border.mean(axis=0)))
    return image.rotate(45 * amount, Image.Resampling.BILINEAR, fillcolor=colour)


def jpeg(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Compressed and read again, at a quality from 95 down to 5."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=round(95 - 90 * abs(amount)))
    return Image.open(file).convert("RGB")


def client_amounts(seed: int, clients: int, strength: float) -> np.ndarray:
    """How much each client's images change, [C], uniform from -`strength` to `strength`; with the sign where a change
    has two directions, by the absolute value where it has one. A client's own does not depend on how many there are."""
    return strength * np.random.default_rng((seed, AMOUNTS)).uniform(-1, 1, clients)


def client_kinds(seed: int, clients: int, kind: str) -> list[str]:
    """The change of each client: `kind`, or with ``mixed`` one of all, alike likely."""
    if kind != "mixed":
        return [kind] * clients
    names = list(CHANGES)
    return [names[int(place)] for place in np.random.default_rng((seed, KINDS)).random(clients) * len(names)]


def changed_images(images: Sequence, owners: np.ndarray, config, seed: int) -> Images:
    """Images as their owners [n] see them: RGB PIL images, changed when asked for, from any thread."""
    clients = int(owners.max(initial=-1)) + 1
    kinds, amounts = client_kinds(seed, clients, config.change), client_amounts(seed, clients, config.change_strength)

    def decode(row: int) -> Image.Image:
        client = int(owners[row])
        rng = np.random.default_rng((seed, NOISE, client, row))
        change = find("partition.change", kinds[client], CHANGES)
        return change(as_picture(images[row]), float(amounts[client]), rng)

    return Images(len(images), decode, getattr(images, "name", "image {}".format))


def change_images(split: LabelledImages, partition: Partition, config, seed: int) -> LabelledImages:
    """The split with each client's feature skew; itself where `config.change` is none.

    `config`: the fields of ``partition``.

    Raises UsageError: no such change, a strength outside 0 to 1, or a partition of other rows."""
    names = ("none", *CHANGES, "mixed")
    if config.change not in names:
        raise UsageError("partition.change", config.change, " | ".join(names), "choose one of these")
    if not 0 <= config.change_strength <= 1:
        raise UsageError("partition.change_strength", config.change_strength, "a number from 0 to 1", "lower it")
    if len(partition.indices) != len(split.labels):
        allowed = f"as many rows as there are training images, {len(split.labels)}"
        raise UsageError("partition", f"{len(partition.indices)} rows", allowed, "divide these very images")
    if config.change == "none":
        return split
    changed = changed_images(split.images, partition.owners, config, seed)
    told = [split.fingerprint, VERSION, config.change, float(config.change_strength), seed, partition_hash(partition)]
    return split._replace(images=changed, fingerprint=hashlib.sha256(json.dumps(told).encode()).hexdigest())
