"""Feature skew: what each change does, that it depends on seed, client and row alone, and what is left untouched."""

import concurrent.futures

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.config import default
from cachefl_jax.config.partition import CHANGES
from cachefl_jax.data import skew
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.partition import Partition, make_partition
from cachefl_jax.data.skew import change_images, client_amounts, client_kinds
from cachefl_jax.errors import UsageError

KINDS = tuple(CHANGES)
ROWS = 24


def photograph() -> Image.Image:
    """A smooth picture with an edge, 40 x 30, its values from 50 to 200."""
    along, down = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 30))
    pixels = np.stack([60 + 80 * along, 60 + 80 * down, 50 + 50 * (along > 0.5) + 100 * (down > 0.5)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def changed(kind: str, amount: float, seed: int = 0) -> np.ndarray:
    return np.asarray(getattr(skew, kind)(photograph(), amount, np.random.default_rng(seed))).astype(float)


def split_of(images) -> LabelledImages:
    return LabelledImages(images, np.arange(len(images)) % 3, "ab" * 32, np.arange(len(images)))


def settings_of(change: str = "mixed", change_strength: float = 0.8, clients: int = 6):
    config = default().partition
    config.update({"name": "iid", "clients": clients, "change": change, "change_strength": change_strength})
    return config


def skewed(config, seed: int = 0, images=None, partition: Partition | None = None) -> LabelledImages:
    split = split_of([photograph()] * ROWS if images is None else images)
    return change_images(split, partition or make_partition(split.labels, config, 0), config, seed)


def pixels_of(images) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_keeps_size_and_mode_and_grows_with_its_amount(kind):
    original = np.asarray(photograph()).astype(float)
    off = [np.abs(changed(kind, amount) - original).mean() for amount in (0.0, 0.2, 0.5, 1.0)]
    assert changed(kind, 1.0).shape == original.shape
    assert off == sorted(off)
    assert off[0] == 0 or (kind == "jpeg" and off[0] < 3)  # which halves the colours' resolution at any quality
    assert off[-1] > off[0] + 1.5


def test_brightness_multiplies_and_contrast_keeps_the_mean():
    original = np.asarray(photograph()).astype(float)
    np.testing.assert_allclose(changed("brightness", -0.5), 0.6 * original, atol=1)
    np.testing.assert_allclose(changed("brightness", 0.25), np.minimum(1.2 * original, 255), atol=1)
    grey = np.asarray(photograph().convert("L")).mean()
    np.testing.assert_allclose(changed("contrast", -1.0), grey + 0.2 * (original - grey), atol=1.5)


def test_blur_softens_the_edge_as_much_either_way():
    def edge(pixels: np.ndarray) -> float:
        return np.abs(np.diff(pixels[..., 2], axis=0)).max()

    assert edge(changed("blur", 1.0)) < 0.5 * edge(np.asarray(photograph()).astype(float))
    np.testing.assert_array_equal(changed("blur", 1.0), changed("blur", -1.0))


def test_noise_has_the_deviation_that_it_says():
    off = changed("noise", 0.5) - np.asarray(photograph())
    assert abs(off[photograph_is_far_from_the_ends()].std() / 32 - 1) < 0.06
    assert not np.array_equal(changed("noise", 0.5, seed=1), changed("noise", 0.5))


def photograph_is_far_from_the_ends() -> np.ndarray:
    values = np.asarray(photograph())
    return (values > 100) & (values < 155)


def test_rotation_turns_about_the_centre_and_fills_with_the_border():
    dot = np.zeros((31, 31, 3), np.uint8)
    dot[0], dot[-1] = 120, 60
    dot[15, 14:17] = dot[15, 25:28] = 255
    turned = np.asarray(skew.rotation(Image.fromarray(dot), 1.0, None)).astype(int)
    assert turned[15, 15, 0] > 150
    assert turned[5:10, 21:26].max() > 100  # 45 degrees anticlockwise of where it was
    assert turned[15, 25:28].max() < 10
    assert (turned[0, 0] == 48).all()  # 124 places of the border: 33 at 120, 33 at 60


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_an_image_is_the_same_whenever_and_from_wherever_it_is_asked_for(kind):
    changed_split = skewed(settings_of(kind))
    first = pixels_of(changed_split.images)
    backwards = [changed_split.images[row] for row in reversed(range(ROWS))][::-1]
    np.testing.assert_array_equal(pixels_of(backwards), first)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = list(range(ROWS)) * 4
        together = pixels_of(pool.map(changed_split.images.__getitem__, rows))
    np.testing.assert_array_equal(together, np.tile(first, (4, 1, 1, 1)))
    np.testing.assert_array_equal(pixels_of(skewed(settings_of(kind)).images), first)


def test_clients_differ_and_rows_of_one_client_differ_only_in_their_noise():
    config = settings_of("brightness")
    partition = make_partition(np.zeros(ROWS), config, 0)
    pixels = pixels_of(skewed(config, partition=partition).images)
    by_client = [pixels[partition.owners == client] for client in range(6)]
    assert all((rows == rows[0]).all() for rows in by_client)
    assert len({rows[0].tobytes() for rows in by_client}) == 6
    noisy = pixels_of(skewed(settings_of("noise")).images)
    assert len({image.tobytes() for image in noisy}) == ROWS


def test_another_seed_changes_otherwise():
    first, second = (pixels_of(skewed(settings_of(), seed).images) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_clients_own_change_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(client_amounts(3, 10, 0.5), client_amounts(3, 1000, 0.5)[:10])
    assert client_kinds(3, 10, "mixed") == client_kinds(3, 1000, "mixed")[:10]


def test_amounts_fill_the_range_and_a_mixture_has_all_kinds():
    amounts = client_amounts(0, 5000, 0.5)
    assert np.abs(amounts).max() <= 0.5
    assert abs(amounts.mean()) < 0.02
    assert abs(amounts.std() - 0.5 / np.sqrt(3)) < 0.01
    kinds, counts = np.unique(client_kinds(0, 6000, "mixed"), return_counts=True)
    assert set(kinds) == set(KINDS)
    assert np.abs(counts - 1000).max() < 120  # four standard deviations of a binomial
    assert client_kinds(0, 3, "blur") == ["blur"] * 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_images_of_any_mode_come_out_rgb(mode):
    images = skewed(settings_of(clients=1), images=[photograph().convert(mode)] * 2).images
    assert [image.mode for image in images] == ["RGB", "RGB"]


@pytest.mark.parametrize("shape", [(8, 8), (8, 9, 3)])
def test_arrays_come_out_as_images(shape):
    arrays = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.uint8)
    images = skewed(settings_of("none", clients=1), images=arrays)
    assert images.images is arrays
    images = skewed(settings_of("brightness", 0.0, clients=1), images=arrays).images
    assert isinstance(images[0], Image.Image)
    np.testing.assert_array_equal(pixels_of(images)[..., 0], arrays.reshape(4, *shape[:2], -1)[..., 0])


def test_they_are_a_sequence():
    images = skewed(settings_of()).images
    assert len(images) == ROWS
    assert len(images[5:30]) == ROWS - 5
    np.testing.assert_array_equal(pixels_of(images[3:9:2]), pixels_of([images[3], images[5], images[7]]))
    np.testing.assert_array_equal(np.asarray(images[-1]), np.asarray(images[ROWS - 1]))
    with pytest.raises(IndexError):
        images[ROWS]


def test_nothing_but_images_and_fingerprint_changes():
    config = settings_of()
    before = split_of([photograph()] * ROWS)
    after = change_images(before, make_partition(before.labels, config, 0), config, 0)
    assert after.labels is before.labels
    assert after.groups is before.groups
    config = settings_of("none")
    assert change_images(before, make_partition(before.labels, config, 0), config, 0) is before


def test_the_fingerprint_tells_everything_that_changes_the_images():
    config = settings_of("blur")
    partition, other = (make_partition(np.zeros(ROWS), config, seed) for seed in (0, 1))
    source = split_of([photograph()] * ROWS)
    prints = [
        change_images(source, partition, config, 0).fingerprint,
        change_images(source._replace(fingerprint="cd" * 32), partition, config, 0).fingerprint,
        change_images(source, other, config, 0).fingerprint,
        change_images(source, partition, settings_of("noise"), 0).fingerprint,
        change_images(source, partition, settings_of("blur", 0.7), 0).fingerprint,
        change_images(source, partition, config, 1).fingerprint,
    ]
    assert len({source.fingerprint, *prints}) == 7
    assert all(len(bytes.fromhex(fingerprint)) == 32 for fingerprint in prints)
    assert change_images(source, partition, config, 0).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (settings_of("fog"), r"^partition.change: got fog; allowed: none \| brightness \| .* \| mixed"),
        (settings_of("blur", 1.5), r"^partition.change_strength: got 1.5; allowed: a number from 0 to 1"),
        (settings_of("blur", -0.1), r"^partition.change_strength: got -0.1"),
        (settings_of("blur", float("nan")), r"^partition.change_strength: got nan"),
    ],
)
def test_no_such_change_is_refused(config, match):
    with pytest.raises(UsageError, match=match):
        skewed(config)


def test_a_division_of_other_rows_is_refused():
    with pytest.raises(UsageError, match=r"^partition: got 30 rows; allowed: as many rows as .* 24"):
        skewed(settings_of(), partition=make_partition(np.zeros(30), settings_of(), 0))
