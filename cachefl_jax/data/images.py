"""What an image source gives: splits of images that are decoded when asked for, and the classes' names.

Axis letters: n rows, N classes, H W image.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cachefl_jax.data.formats import LIMIT, formats, pixels_allowed
from cachefl_jax.errors import UsageError

TEMPLATES = ("a photo of a {}.",)  # for sources that bring none


class LabelledImages(NamedTuple):
    """One split. `images[i]` is decoded when asked for, from any thread."""

    images: Sequence  # n of them: PIL images, or uint8 [H, W] or [H, W, 3]
    labels: np.ndarray  # [n] int32
    fingerprint: str  # sha256 in hex: other images, other fingerprint
    groups: np.ndarray | None = None  # [n] int32, the site that each row came from, where the source says
    notes: tuple[str, ...] = ()  # what was left out of this split
    real: np.ndarray | None = None  # [n] bool, of the server's images: which no generator drew, where some are such


class ImageSet(NamedTuple):
    """A data set of images. A source without a test split gives None for it, until `hold_out` has made one."""

    train: LabelledImages
    validation: LabelledImages | None
    test: LabelledImages | None
    class_names: tuple[str, ...]  # N of them
    templates: tuple[str, ...]  # prompts with one {} for the class name
    notes: tuple[str, ...] = ()  # what whoever reads the results should know of the source
    site_names: tuple[str, ...] = ()  # in the order of the numbers in groups, where the source names its sites


class Images(Sequence):
    """n images, each decoded when asked for and not kept.

    Args:
        decode: row -> image, from any thread; whatever it raises means that the image is broken.
        name: row -> what a message calls the image, such as its file.
        files: whether the names are those of files.
        encoded: row -> the bytes that are decoded, where the names are not those of files.
        file: row -> the file that these bytes are all of, or "", where some are."""

    def __init__(
        self,
        count: int,
        decode: Callable[[int], object],
        name: Callable[[int], str],
        files: bool = False,
        encoded: Callable[[int], bytes] | None = None,
        file: Callable[[int], str] | None = None,
    ):
        self.rows, self.decode, self.name, self.files = range(count), decode, name, files
        self.encoded, self.file = encoded, file

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row):
        """The image of a row, or a list of them for a slice.

        Raises UsageError: the image cannot be decoded; it is named."""
        row = self.rows[row]
        if isinstance(row, range):
            return [self[each] for each in row]
        try:
            return self.decode(row)
        except UsageError:
            raise
        except Exception as error:  # on damaged bytes a decoder may raise anything
            mend = "replace or delete it, or --config.data.broken=skip"
            if isinstance(error, Image.DecompressionBombError):
                mend = f"raise {LIMIT} if you trust it, or {mend}"
            found = f"{self.name(row)} ({reason(error)})"
            raise UsageError("image", found, "an image that can be decoded", mend) from error


def reason(error: Exception) -> str:
    """Why an image cannot be decoded, in the same words every time."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's own words name an object in memory
        return "no image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than {LIMIT}, {pixels_allowed()}"
    return f"{type(error).__name__}: {error}"


def read_image(source: str | BinaryIO) -> Image.Image:
    """An image file, whole and upright: turned as its EXIF orientation says. 16 bits of grey become 8.

    Raises ValueError: numbers without a known range, of which Pillow would make black and white."""
    with Image.open(source, formats=formats()) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
    if upright.mode in ("I", "F"):
        raise ValueError(f"mode {upright.mode} has no known range of grey: save it in 8 or 16 bits")
    return upright


def select(split: LabelledImages, rows: np.ndarray) -> LabelledImages:
    """These rows of a split, in this order; arrays are copied, other images still wait to be decoded."""
    images = split.images
    if isinstance(images, np.ndarray):
        chosen = images[rows]
    else:
        name = getattr(images, "name", "image {}".format)
        files, encoded = getattr(images, "files", False), getattr(images, "encoded", None)
        again, file = encoded and (lambda row: encoded(rows[row])), getattr(images, "file", None)
        place = file and (lambda row: file(rows[row]))
        chosen = Images(len(rows), lambda row: images[rows[row]], lambda row: name(rows[row]), files, again, place)
    groups, real = (None if each is None else each[rows] for each in (split.groups, split.real))
    fingerprint = fingerprint_of(split.fingerprint, np.asarray(rows, np.int64))
    return LabelledImages(chosen, split.labels[rows], fingerprint, groups, split.notes, real)


def file_of(images, row: int) -> str:
    """The file that holds an image by itself; "" where it lies in memory, or among others in a larger file."""
    if getattr(images, "files", False):
        return images.name(row)
    place = getattr(images, "file", None)
    return place(row) if place else ""


def fingerprint_of(*parts: str | np.ndarray) -> str:
    """The sha256, in hex, of texts and arrays; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        # Names of files that are not in UTF-8 hold lone surrogates.
        text = part.encode(errors="surrogatepass") if isinstance(part, str) else None
        content = memoryview(np.ascontiguousarray(part) if text is None else text)  # never a copy
        kind = "text" if isinstance(part, str) else f"{part.dtype.str}{part.shape}"
        digest.update(f"{kind} {content.nbytes}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def one_colour(images: np.ndarray) -> np.ndarray:
    """Which of the images [n, H, W] or [n, H, W, 3] have the same value in every pixel, bool [n]."""
    return (images == images[:, :1, :1]).reshape(len(images), -1).all(axis=1)


def is_blank(image: Image.Image | np.ndarray) -> bool:
    """Whether an image is of one colour, or transparent all over."""
    if isinstance(image, np.ndarray):
        return bool(one_colour(image[None])[0])
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGBA")
    extremes = image.getextrema()
    bands = [extremes] if image.mode == "L" else extremes
    if len(bands) == 4 and bands[3][1] == 0:
        return True
    return all(low == high for low, high in bands)


def without_blanks(split: LabelledImages) -> LabelledImages:
    """The same images, of which one that is blank is refused when it is asked for."""
    images = split.images
    name = getattr(images, "name", "image {}".format)

    def decode(row: int):
        image = images[row]
        if is_blank(image):
            mend = "replace or delete it, or have others taken: another seed, other prompts"
            raise UsageError("synthesis", f"{name(row)} (of one colour)", "images that show something, as keys", mend)
        return image

    return split._replace(images=Images(len(split.labels), decode, name))
