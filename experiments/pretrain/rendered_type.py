"""Rendered type with captions: what the pocket CLIP and the pocket generator are trained on.

Digits and letters in the fonts that matplotlib ships, light on dark, in many slants, stroke widths, distortions and
resolutions. Nothing here was ever written by a hand.
"""

import pathlib
from typing import NamedTuple

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tqdm import trange

SIZE = 32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STYLES = ("bold", "thin", "slanted", "serif", "typewriter", "blurred")
RESOLUTIONS = (8, 8, 10, 12, 16, 24, 32)
TEMPLATES = ("a photo of the {}.", "a picture of the {}.", "the {}.", "an image of the {}.", "{}")


class RenderedType(NamedTuple):
    """A training set: images, what they show and how it looks."""

    images: np.ndarray  # [n, SIZE, SIZE] uint8
    glyphs: np.ndarray  # [n] int, an index into CHARACTERS
    styles: np.ndarray  # [n, len(STYLES)] bool


def fonts() -> list[pathlib.Path]:
    """The shipped TrueType fonts that hold every one of CHARACTERS under its own code point."""
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    wanted = {ord(character) for character in CHARACTERS}
    placeholders = ("LastResort", "cmsy", "cmex", "cmmi")  # boxes, or symbols where letters are due
    paths = [path for path in sorted(folder.glob("*.ttf")) if not path.name.startswith(placeholders)]
    return [path for path in paths if wanted <= set(TTFont(path).getBestCmap())]


def render(count: int, seed: int, digit_share: float = 0.4, coarsest: int = 8) -> RenderedType:
    """Draws `count` characters; `digit_share` of them are digits, the others letters of both cases.

    They are seen at resolutions from `coarsest` pixels a side up to SIZE: the coarser, the nearer type comes to small
    scans of handwriting."""
    rng = np.random.default_rng(seed)
    resolutions = [pixels for pixels in RESOLUTIONS if pixels >= coarsest]
    faces = [(path.stem, ImageFont.truetype(str(path), 40)) for path in fonts()]
    is_digit = rng.random(count) < digit_share
    glyphs = np.where(is_digit, rng.integers(0, 10, count), rng.integers(10, len(CHARACTERS), count))
    images = np.zeros((count, SIZE, SIZE), np.uint8)
    styles = np.zeros((count, len(STYLES)), bool)
    for row in trange(count, desc="rendering type", leave=False, disable=None):
        name, face = faces[rng.integers(len(faces))]
        images[row], styles[row] = draw(rng, CHARACTERS[glyphs[row]], name, face, resolutions)
    return RenderedType(images, glyphs, styles)


def draw(
    rng: np.random.Generator, character: str, name: str, face, resolutions: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """One character, [SIZE, SIZE] uint8, and which of STYLES it shows."""
    stroke = rng.choice([0, 0, 1, 2])
    shear = rng.normal(0, 0.15)
    glyph = place(rng, outline(character, face, stroke), shear)
    glyph = warp(rng, glyph, rng.uniform(0, 1.6))
    resolution = rng.choice(resolutions)
    glyph = change_resolution(glyph, resolution)
    ink, ground = rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.12)
    noise = rng.normal(0, rng.uniform(0, 0.06), glyph.shape)
    image = np.clip(255 * (ground + (ink - ground) * glyph + noise), 0, 255).astype(np.uint8)
    heavy = "Bold" in name or stroke == 2
    slanted = shear > 0.2 or any(word in name for word in ("Oblique", "Ita", "cmti"))
    serif = any(word in name for word in ("Serif", "STIX", "cmr", "cmb", "cmti"))
    mono = "Mono" in name or "cmtt" in name
    return image, np.array([heavy, not heavy and stroke == 0, slanted, serif, mono, resolution <= 10])


def outline(character: str, face, stroke: int) -> np.ndarray:
    """The character cut to its bounding box, [h, w] float in 0..1."""
    canvas = Image.new("L", (96, 96))
    ImageDraw.Draw(canvas).text((24, 16), character, fill=255, font=face, stroke_width=int(stroke))
    return np.asarray(canvas.crop(canvas.getbbox()), np.float32) / 255


def place(rng: np.random.Generator, glyph: np.ndarray, shear: float) -> np.ndarray:
    """Scales, slants, turns and shifts a glyph into the [SIZE, SIZE] field."""
    height, width = glyph.shape
    tall = rng.uniform(0.65, 0.98) * SIZE
    wide = min(tall * width / height * rng.uniform(0.75, 1.35), 0.98 * SIZE)
    angle = np.deg2rad(rng.normal(0, 6))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.diag([height / tall, width / wide])
    matrix = scale @ np.array([[1, 0], [shear, 1]]) @ turn
    centre = np.array([(SIZE - 1) / 2, (SIZE - 1) / 2]) + rng.normal(0, 0.8, 2)
    offset = np.array([(height - 1) / 2, (width - 1) / 2]) - matrix @ centre
    # Smoothed before it shrinks, as a font rasteriser would, or thin strokes fall between samples.
    soft = ndimage.gaussian_filter(glyph, np.maximum(0, (np.diag(scale) - 1) / 2))
    return ndimage.affine_transform(soft, matrix, offset, (SIZE, SIZE), order=1)


def warp(rng: np.random.Generator, glyph: np.ndarray, strength: float) -> np.ndarray:
    """Bends the field smoothly by `strength` pixels (standard deviation)."""
    coarse = rng.normal(0, strength, (2, 4, 4))
    shift = np.stack([ndimage.zoom(plane, SIZE / 4, order=1) for plane in coarse])
    return ndimage.map_coordinates(glyph, np.indices(glyph.shape) + shift, order=1)


def change_resolution(glyph: np.ndarray, resolution: int) -> np.ndarray:
    """Shrinks to `resolution` pixels a side and grows back, as a small scan would be."""
    image = Image.fromarray((255 * np.clip(glyph, 0, 1)).astype(np.uint8))
    if resolution < SIZE:
        image = image.resize((resolution, resolution), Image.Resampling.BOX)
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255


def caption(rng: np.random.Generator, glyph: int, styles: np.ndarray) -> str:
    """What somebody might write under the image: its name, and sometimes one of its styles."""
    subject = describe(rng, int(glyph))
    shown = np.flatnonzero(styles)
    if len(shown) and rng.random() < 0.4:
        subject = f"{STYLES[rng.choice(shown)]} {subject}"
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(subject)


def describe(rng: np.random.Generator, glyph: int) -> str:
    if glyph < 10:
        name = DIGITS[glyph] if rng.random() < 0.7 else str(glyph)
        return f"{rng.choice(['digit', 'digit', 'number'])} {name}"
    case, letter = ("capital", glyph - 10) if glyph < 36 else ("small", glyph - 36)
    return f"{case} letter {LETTERS[letter]}"


def captions(rng: np.random.Generator, data: RenderedType) -> list[str]:
    """A fresh caption for every image."""
    return [caption(rng, glyph, styles) for glyph, styles in zip(data.glyphs, data.styles, strict=True)]
