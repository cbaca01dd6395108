"""Scores of candidates against plain loops, and which candidates are left out."""

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cachefl_jax.data.images import Images, LabelledImages, fingerprint_of
from cachefl_jax.synthesis.scores import BLURRED, DUPLICATES, dropped, scores, sharpness_and_constant
from cachefl_jax.synthesis.selection import Set


def plain_sharpness(grey: np.ndarray) -> float:
    """Borders mirrored about the outermost pixels, as OpenCV has them."""
    height, width = grey.shape
    values = []
    for row in range(height):
        for column in range(width):
            around = 0.0
            for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                y = abs(y) if y < height else 2 * (height - 1) - y
                x = abs(x) if x < width else 2 * (width - 1) - x
                around += float(grey[y, x])
            values.append(around - 4 * float(grey[row, column]))
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 3), (2, 2)])
def test_sharpness_is_the_variance_of_the_laplacian_of_grey_levels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    for form in (image, Image.fromarray(image)):
        sharpness, constant = sharpness_and_constant(form)
        assert sharpness == pytest.approx(plain_sharpness(grey), rel=1e-12)
        assert constant is False
    assert sharpness_and_constant(np.full(shape, 7, np.uint8)) == (0.0, True)
    assert sharpness_and_constant(np.full((1, 1), 7, np.uint8)) == (0.0, True)


def picture(seed: int) -> Image.Image:
    """Smooth shapes, whose near-duplicates are found as those of photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def split_of(pictures: list[Image.Image], labels: list[int], real: list[int] = ()) -> LabelledImages:
    images = Images(len(pictures), pictures.__getitem__, "picture {}".format)
    is_real = np.isin(np.arange(len(pictures)), real) if real else None
    return LabelledImages(
        images, np.array(labels), fingerprint_of(*(np.asarray(each) for each in pictures)), real=is_real
    )


def test_scores_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    pictures = [picture(seed) for seed in range(6)]
    pictures[4] = pictures[0].resize((96, 96), Image.Resampling.BICUBIC)  # of another class
    pictures[5] = Image.new("RGB", (48, 48), "teal")
    labels = [0, 1, 0, 0, 1, 2]
    features, text = (rng.normal(size=(count, 8)) for count in (6, 3))
    features, text = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, text))
    table = scores(split_of(pictures, labels), Set(features, np.array(labels), text))
    for row, label in enumerate(labels):
        cosines = [sum(a * b for a, b in zip(features[row], each, strict=True)) for each in text]
        others = [other for other in range(3) if other != label]
        second = max(others, key=lambda other: cosines[other])
        assert table.agreement[row] == pytest.approx(cosines[label], abs=1e-12)
        assert table.margin[row] == pytest.approx(cosines[label] - cosines[second], abs=1e-12)
        assert table.runner_up[row] == second
        alike = [other for other in range(6) if labels[other] == label and other != row]
        expected = min((1 - features[row] @ features[other] for other in alike), default=math.nan)
        assert table.nearest[row] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert table.sharpness[row] == pytest.approx(plain_sharpness(np.asarray(pictures[row].convert("L"))))
    assert table.constant.tolist() == [False] * 5 + [True]
    assert table.duplicates[0] == table.duplicates[4]
    assert len(set(table.duplicates.tolist())) == 5


def test_blurred_images_and_near_duplicates_of_a_class_are_left_out_and_real_ones_stay():
    sharp = [picture(seed) for seed in range(4)]
    soft = sharp[1].filter(ImageFilter.GaussianBlur(3))
    again = sharp[0].resize((40, 40), Image.Resampling.BICUBIC)
    #           0         1     2         3      4         5      6         7
    pictures = [sharp[0], soft, sharp[1], again, sharp[0], again, sharp[2], sharp[3]]
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    split = split_of(pictures, labels)
    levels = [sharpness_and_constant(each)[0] for each in (soft, *sharp)]
    least = (levels[0] + min(levels[1:])) / 2
    assert dropped(split, 0.0, "keep") == {}
    assert {reason: rows.tolist() for reason, rows in dropped(split, least, "keep").items()} == {BLURRED: [1]}
    found = dropped(split, 0.0, "drop")  # the blurred one stands for its sharp twin
    assert {reason: rows.tolist() for reason, rows in found.items()} == {DUPLICATES: [2, 3, 5]}
    found = dropped(split, least, "drop")
    assert {reason: rows.tolist() for reason, rows in found.items()} == {BLURRED: [1], DUPLICATES: [3, 5]}
    found = dropped(split_of(pictures, labels, real=[1, 3, 5]), least, "drop")
    assert {reason: rows.tolist() for reason, rows in found.items()} == {DUPLICATES: [0, 2, 4]}
