"""Images of one colour are found in every form that images come in."""

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.data.images import LabelledImages, is_blank, one_colour, without_blanks
from cachefl_jax.errors import UsageError


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK"])
def test_pictures_of_one_colour_are_blank_and_with_one_other_pixel_they_are_not(mode):
    picture = Image.new(mode, (6, 5), 1)
    if mode == "P":
        picture.putpalette([0, 0, 0, 200, 10, 10])
    assert is_blank(picture)
    values = np.zeros((5, 6, 3), np.uint8)
    values[2, 3] = 255
    other = Image.fromarray(values).convert(mode)
    assert not is_blank(other)


def test_what_is_transparent_all_over_is_blank():
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    values[..., 3] = 0
    assert is_blank(Image.fromarray(values))


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
def test_arrays_are_asked_all_at_once(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[2] = 7
    assert one_colour(images).tolist() == [False, False, True, False]
    split = without_blanks(LabelledImages(images, np.zeros(4, np.int32), "x"))
    np.testing.assert_array_equal(split.images[1], images[1])
    with pytest.raises(UsageError, match=r"synthesis: got image 2 \(of one colour\); allowed"):
        split.images[2]
