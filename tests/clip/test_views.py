"""Random views: functions of seed, view and row alone, within their bounds."""

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.images import read_preparation, shaped
from cachefl_jax.clip.views import RATIO, EveryView, ViewedImages, Views, crop_box, view_pixels


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 50, 40, 3), dtype=np.uint8)


def views(images, seed: int = 0, view: int = 0) -> list[np.ndarray]:
    return [np.asarray(picture) for picture in ViewedImages(images, (32, 32), 3, seed, view)]


def test_a_view_hangs_on_seed_view_and_row_alone(images):
    first = views(images)
    np.testing.assert_array_equal(views(images), first)
    alone = ViewedImages(images, (32, 32), 3, 0, 0)
    np.testing.assert_array_equal(np.asarray(alone[4]), first[4])
    np.testing.assert_array_equal(np.asarray(alone[-2]), first[4])
    for other in (views(images, seed=1), views(images, view=1), views(images[::-1])[::-1]):
        assert all((here != there).any() for here, there in zip(first, other, strict=True))
    with pytest.raises(IndexError):
        alone[6]


def test_views_are_of_the_preparations_size_so_that_it_moves_no_pixel(images):
    preparation = read_preparation(POCKET)
    for picture in ViewedImages(images, preparation.size, preparation.resample, 0, 0):
        np.testing.assert_array_equal(shaped(picture, preparation), np.asarray(picture))


def test_every_view_goes_view_by_view(images):
    all_of_them = EveryView(images, (32, 32), 3, Views(2, seed=7))
    assert len(all_of_them) == 12
    expected = views(images, 7, 0) + views(images, 7, 1)
    np.testing.assert_array_equal([np.asarray(picture) for picture in all_of_them], expected)
    np.testing.assert_array_equal(view_pixels(images[4], 4, Views(2, seed=7), (32, 32), 3), [expected[4], expected[10]])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_any_mode_and_shape_gives_views(mode):
    pictures = [Image.new(mode, size) for size in ((1, 1), (1, 500), (500, 1), (3, 2), (640, 480))]
    for picture in ViewedImages(pictures, (24, 20), 2, 0, 0):
        assert (picture.size, picture.mode) == ((20, 24), "RGB")


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (224, 224), (900, 300), (1, 1), (5, 4000)])
def test_boxes_keep_to_the_picture_and_to_their_bounds(width, height):
    shares, ratios = [], []
    for seed in range(300):
        left, top, right, bottom = crop_box(np.random.default_rng(seed), width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        shares.append((right - left) * (bottom - top) / (width * height))
        ratios.append((right - left) / (bottom - top))
    if 1 < max(width, height) < 2 * min(width, height):
        assert 0.49 < min(shares) < 0.6 < 0.9 < max(shares) <= 1
        assert RATIO[0] * 0.98 < min(ratios) < 0.85 < 1.2 < max(ratios) < RATIO[1] * 1.02


def test_boxes_lie_anywhere_and_half_of_the_views_are_mirrored():
    ramp = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (300, 1))  # brighter to the right
    seen = np.array([np.asarray(picture)[:, :, 0] for picture in ViewedImages([ramp] * 400, (16, 16), 3, 0, 0)], int)
    mirrored = seen[:, 8, 0] > seen[:, 8, -1]
    assert 0.4 < mirrored.mean() < 0.6
    middles = seen[:, 8, 7:9].mean(axis=1)
    assert middles.std() > 10
    assert abs(middles.mean() - 127.5) < 5
