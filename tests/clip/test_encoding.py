"""Encoding many images: the same features whatever the batch, the devices and the start; little held; faults named."""

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from cachefl_jax.clip import averaged_blocks, encode_images, encoding, image_blocks, load_encoder
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.encoding import (
    ImageProgram,
    Options,
    check_batch,
    default_devices,
    fitting,
    per_batch,
    raw_image_features,
    unit_rows,
)
from cachefl_jax.clip.images import Preparation, prepare, prepare_all, read_preparation, shaped
from cachefl_jax.clip.prefetch import AHEAD, batches_of, prepared_batches
from cachefl_jax.clip.views import ViewedImages, Views
from cachefl_jax.errors import UsageError

PLAIN = Preparation(resize=None, crop=None, resample=3, mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)
NUMBERS = {
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), 1 / 255),
    "SigLIP": ((0.5,) * 3, (0.5,) * 3, 1 / 255),
    "pocket": ((0.25,) * 3, (0.3,) * 3, 1 / 255),
    "another factor": ((0.1, 0.2, 0.3), (0.7, 0.5, 0.3), 1 / 127.5),
}


class Pixels(nnx.Module):
    """A tower whose features are its pixels."""

    def image_features(self, pixels):
        return pixels.reshape(len(pixels), -1)


class PixelEncoder(NamedTuple):
    """What encoding needs to know of an encoder."""

    model: nnx.Module = Pixels()
    preparation: Preparation = PLAIN
    image_size: int | None = None  # any


class Watched(Sequence):
    """Images that tell which were asked for, and by which threads."""

    def __init__(self, images: Sequence):
        self.images, self.asked, self.threads = images, [], set()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int):
        self.asked.append(row)
        self.threads.add(threading.current_thread())
        return self.images[row]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("pocket")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (45, 30, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(encoder, noise) -> np.ndarray:
    return encode_images(encoder, noise)


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS.keys())
def test_every_level_is_normalised_on_the_device_as_on_the_host(numbers):
    mean, std, scale = numbers
    preparation = PLAIN._replace(mean=mean, std=std, scale=scale)
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)  # [256, 1, 3], a picture
    compute = ImageProgram(PixelEncoder(preparation=preparation), jax.devices()[:1], np.dtype(np.float32))
    ours = np.asarray(compute(levels[None])).reshape(256, 1, 3)
    assert np.abs(ours - prepare(levels, preparation)).max() < 1e-6


def test_the_model_is_handed_the_data_type_asked_for():
    picture = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    encoder = PixelEncoder(preparation=PLAIN._replace(scale=1.001))
    compute = ImageProgram(encoder, jax.devices()[:1], np.dtype("bfloat16"))
    expected = jax.numpy.asarray(picture.reshape(1, -1) * np.float32(1.001), "bfloat16").astype("float32")
    np.testing.assert_array_equal(compute(picture), expected)


def test_features_are_the_models_own_made_unit(encoder, noise, features):
    raw = np.asarray(encoder.model.image_features(prepare_all(noise, encoder.preparation)))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 45, 64])
def test_the_batch_does_not_matter(encoder, noise, features, batch_size):
    blocks = list(image_blocks(encoder, noise, options=Options(batch_size)))
    assert [len(block) for block in blocks] == [min(batch_size, 45 - row) for row in range(0, 45, batch_size)]
    np.testing.assert_allclose(np.concatenate(blocks), features, atol=1e-6)


def test_a_later_start_gives_the_same_bytes(encoder, noise):
    whole = np.concatenate(list(image_blocks(encoder, noise, options=Options(8))))
    rest = np.concatenate(list(image_blocks(encoder, noise, start=16, options=Options(8))))
    assert rest.tobytes() == whole[16:].tobytes()
    assert list(image_blocks(encoder, noise, start=45)) == []


def test_four_devices_compute_what_one_does(encoder, noise, features):
    options = Options(batch_size=10, devices=tuple(jax.devices()[:4]))
    blocks = list(image_blocks(encoder, noise, options=options))
    assert {len(block) for block in blocks[:-1]} == {12}  # what the devices share evenly
    np.testing.assert_allclose(np.concatenate(blocks), features, atol=1e-6)
    compute = ImageProgram(encoder, options.devices, np.dtype(np.float32))
    assert len(compute(np.zeros((12, 32, 32, 3), np.uint8)).devices()) == 4


def test_one_program_serves_all_batches_and_calls(encoder, noise, features):
    before = raw_image_features._cache_size()
    encode_images(encoder, noise[:3])
    encode_images(encoder, noise[:40])
    assert raw_image_features._cache_size() == before


def test_batches_are_chosen_by_the_size_of_the_images():
    devices = jax.devices()
    small, large, huge = (per_batch(0, size, devices[:1], 1) for size in ((32, 32), (224, 224), (4000, 4000)))
    assert small > large > huge == 1
    assert per_batch(0, (224, 224), devices[:4], 1) == 4 * large
    assert per_batch(0, (224, 224), devices[:1], 4) == large // 4
    assert len(default_devices()) == 1  # of a CPU


def test_a_batch_that_takes_too_much_of_an_accelerators_memory_is_halved(encoder, monkeypatch):
    program, size = ImageProgram(encoder, jax.devices()[:1], np.dtype(np.float32)), (32, 32)
    assert fitting(program, 64, 1, size) == 64  # a CPU
    needs = {count: program.bytes_for((count, *size, 3)) for count in (16, 32, 64)}
    assert needs[64] > 1.5 * needs[32] > 1.5**2 * needs[16]
    monkeypatch.setattr(encoding, "memory_of", lambda device: needs[32] / encoding.SHARE)
    assert fitting(program, 64, 1, size) == 32
    assert list(program.made) == [(32, *size, 3)]
    pixels = np.random.default_rng(0).integers(0, 256, (32, *size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(program(pixels), raw_image_features(*program.given, [pixels], **program.how))
    monkeypatch.setattr(encoding, "memory_of", lambda device: 1)
    assert fitting(program, 64, 1, size) == 1


def test_towers_of_three_products_ask_for_them_in_every_product(noise, features):
    encoder = load_encoder("pocket", "float32_3x")
    assert np.abs(encode_images(encoder, noise, options=Options(dtype="float32_3x")) - features).max() < 1e-5
    program = ImageProgram(encoder, jax.devices()[:1], np.dtype(np.float32))
    text = raw_image_features.lower(*program.given, [np.zeros((1, 32, 32, 3), np.uint8)], **program.how).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) > 10
    assert all("num_primitive_operations = 3" in line for line in products)  # which a CPU computes as one of float32


def test_images_are_prepared_by_threads_shortly_before_they_are_needed(encoder, noise):
    watched = Watched(np.concatenate([noise] * 4))
    blocks = image_blocks(encoder, watched, options=Options(10))
    for done in range(1, 5):
        next(blocks)
        time.sleep(0.02)
        assert max(watched.asked) < 10 * (done + AHEAD + 1)
    assert threading.main_thread() not in watched.threads
    blocks.close()
    asked = len(watched.asked)
    time.sleep(0.05)
    assert len(watched.asked) == asked < 180
    assert not any(thread.is_alive() for thread in watched.threads)


def test_a_batch_keeps_its_pixels_until_the_next_but_one_is_asked_for():
    pixels = np.random.default_rng(0).integers(1, 256, (35, 4, 4, 3), dtype=np.uint8)
    memory, before = set(), None
    for chunk, batch in prepared_batches(lambda row: pixels[row], range(35), 4, (4, 4, 3)):
        time.sleep(0.01)  # what is prepared ahead has been written
        for rows, held in ((chunk, batch), before or (chunk, batch)):
            np.testing.assert_array_equal(held[: len(rows)], pixels[rows.start : rows.stop])
        memory.add(batch.ctypes.data)
        before = chunk, batch
    assert not batch[3:].any()  # the last batch is filled up
    assert len(memory) == AHEAD + 2 < 9


def test_pixels_as_the_tower_takes_them_are_handed_on_as_they_are(noise):
    picture = noise[0]
    assert shaped(picture, PLAIN) is picture
    assert shaped(picture, PLAIN._replace(resize=(30, 40), crop=(30, 40))) is picture
    for changed in (PLAIN._replace(resize=(31, 40)), PLAIN._replace(crop=(30, 39))):
        assert shaped(picture, changed).shape != picture.shape
    grey = shaped(picture[..., 0], PLAIN)
    np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=2))


def test_pixels_that_are_all_there_are_sent_as_they_lie_and_in_pieces(monkeypatch):
    pixels = np.random.default_rng(0).integers(1, 256, (11, 4, 4, 3), dtype=np.uint8)
    batches = list(batches_of(pixels, range(3, 11), 3))
    assert [chunk for chunk, _ in batches] == [range(3, 6), range(6, 9), range(9, 11)]
    assert all(np.shares_memory(batch, pixels) for _, batch in batches[:2])
    np.testing.assert_array_equal(batches[2][1], np.concatenate([pixels[9:], np.zeros((1, 4, 4, 3), np.uint8)]))
    whole = encode_images(PixelEncoder(), pixels)
    np.testing.assert_array_equal(whole, encode_images(PixelEncoder(), list(pixels)))
    monkeypatch.setattr(encoding, "pieces_for", lambda devices: 4)  # as for an accelerator
    np.testing.assert_array_equal(whole, encode_images(PixelEncoder(), pixels, options=Options(10)))


def test_what_a_thread_raises_is_raised_as_it_is_and_stops_the_others(encoder, noise):
    class Broken(Watched):
        def __getitem__(self, row: int):
            if row == 23:
                raise UsageError("data.path", "b/23.jpg", "an image", "replace it")
            return super().__getitem__(row)

    images = Broken(np.concatenate([noise] * 4))
    blocks = image_blocks(encoder, images, options=Options(10))
    with pytest.raises(UsageError, match="data.path: got b/23.jpg"):
        list(blocks)
    assert max(images.asked) < 10 * (3 + AHEAD)
    assert not any(thread.is_alive() for thread in images.threads)


@pytest.mark.parametrize(("value", "found"), [(0, "zeros"), (float("nan"), "NaN or infinity")])
def test_a_feature_without_direction_is_refused_with_its_image(value, found):
    encoder = PixelEncoder(preparation=PLAIN._replace(mean=(5.0, 5.0, 5.0), std=(1.0, 1.0, value or 1.0)))
    images = [np.full((2, 2, 3), 5 if row == 9 else 7, np.uint8) for row in range(12)]
    row = 9 if value == 0 else 0  # a deviation of NaN spoils every image, and the first is told
    with pytest.raises(
        UsageError, match=f"^train, image {row}: got a feature {'of' if value == 0 else 'with'} {found}"
    ):
        encode_images(encoder, images, "train", Options(4))


def test_a_source_that_names_its_images_is_quoted():
    class Named(Watched):
        def name(self, row: int) -> str:
            return f"cats/{row}.jpg"

    images = Named([np.zeros((2, 2, 3), np.uint8)] * 3)
    with pytest.raises(UsageError, match=r"^test, image 0 \(cats/0.jpg\): got a feature of zeros"):
        encode_images(PixelEncoder(), images, "test")
    with pytest.raises(UsageError, match=r"^test, image 0 \(cats/0.jpg\): got a feature of zeros"):
        list(averaged_blocks(PixelEncoder(), images, Views(2), "test"))


def test_unit_rows_survive_tiny_and_huge_lengths():
    rows = unit_rows(np.array([[3e-30, 4e-30], [3e30, -4e30]]), str)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.6, -0.8]], atol=1e-7)


def test_images_that_stay_of_different_sizes_are_refused_by_number():
    images = [Image.new("RGB", (4, 4), (1, 2, 3))] * 3 + [Image.new("RGB", (4, 5), (1, 2, 3))]
    with pytest.raises(UsageError, match="test, image 3: got 5 x 4 pixels; allowed: 4 x 4, as the first"):
        encode_images(PixelEncoder(), images, "test")


@pytest.mark.parametrize("picture", [Image.new("L", (3_000_000, 1)), np.zeros((3_000_000, 1, 3), np.uint8)])
def test_an_image_that_would_fill_the_memory_once_resized_is_refused_by_number(encoder, picture):
    with pytest.raises(UsageError, match=r"test, image 1: got .* pixels, which .* makes .*96000000.*mend: crop it"):
        encode_images(encoder, [Image.new("L", (1, 10_000)), picture], "test")


def test_averaged_views_are_raw_features_averaged_and_then_made_unit(encoder, noise):
    views, size = Views(3, seed=5), encoder.preparation.size
    raw = []
    for number in range(views.count):
        pictures = ViewedImages(noise, size, encoder.preparation.resample, views.seed, number)
        raw.append(np.asarray(encoder.model.image_features(prepare_all(pictures, encoder.preparation))))
    mean = np.mean(raw, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    watched = Watched(noise)
    ours = np.concatenate(list(averaged_blocks(encoder, watched, views, options=Options(8))))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert sorted(watched.asked) == list(range(45))  # each decoded once
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in raw]
    assert np.abs(ours - np.mean(units, axis=0)).max() > 1e-4
    rest = np.concatenate(list(averaged_blocks(encoder, noise, views, start=16, options=Options(8))))
    assert rest.tobytes() == ours[16:].tobytes()


def test_the_pockets_preparation_gives_one_size():
    assert read_preparation(POCKET).size == (32, 32)


@pytest.mark.parametrize(
    ("options", "views", "field"), [(Options(2**31 - 1), 1, "clip.batch_size"), (Options(), 10**9, "clip.key_views")]
)
def test_a_batch_that_memory_does_not_hold_is_refused_by_its_field(options, views, field, monkeypatch):
    monkeypatch.setattr("cachefl_jax.machine.free_memory", lambda: 10**9)
    check_batch(8, 1, (224, 224), options)
    with pytest.raises(UsageError, match=rf"{field}: got \d+ \(takes .*what fits .*mend: lower it"):
        check_batch(options.batch_size or 8, views, (32, 32), options)
