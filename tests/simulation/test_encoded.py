"""Features by way of the store: the first run computes, the second opens and loads no model."""

import hashlib

import numpy as np
import pytest

import cachefl_jax.clip
from cachefl_jax.clip import averaged_blocks, encode_classes, encode_images, load_encoder
from cachefl_jax.clip.views import ViewedImages, Views
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import encoded
from cachefl_jax.storage.entries import entries

NAMES, TEMPLATES = ("three", "seven"), ("a photo of the digit {}.", "the digit {}.")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("pocket")


@pytest.fixture
def loads(monkeypatch, tmp_path, encoder) -> list[str]:
    """The checkpoints whose towers were loaded; the store is empty."""
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path))
    names = []
    monkeypatch.setattr(
        cachefl_jax.clip, "load_encoder", lambda name, dtype: names.append(name) or encoder, raising=False
    )
    return names


def split(seed: int = 0) -> LabelledImages:
    images = np.random.default_rng(seed).integers(0, 256, (20, 16, 12), dtype=np.uint8)
    return LabelledImages(images, np.zeros(20, np.int32), hashlib.sha256(images).hexdigest())


def test_the_second_run_loads_no_model(loads, encoder):
    for _ in range(2):
        checkpoint = encoded.Checkpoint("pocket")
        record = encoded.class_weights(checkpoint, NAMES, TEMPLATES, "digits, texts")
        features = encoded.image_features(checkpoint, split(), "digits, train")
        np.testing.assert_allclose(features, encode_images(encoder, split().images), atol=1e-6)
        np.testing.assert_array_equal(record.arrays["text_features"], encode_classes(encoder, NAMES, TEMPLATES))
        assert record.facts["logit_scale"] == encoder.logit_scale
        assert record.facts["whole_model"]["bytes"] == encoder.byte_count
        assert record.facts["whole_model"]["image_forward_flops"] > 0
    assert loads == ["pocket"]


def test_other_images_views_or_data_types_are_other_features(loads):
    plain, bfloat16 = encoded.Checkpoint("pocket"), encoded.Checkpoint("pocket", "bfloat16")
    asked = [
        (plain, split(), None, "average"),
        (plain, split(1), None, "average"),
        (bfloat16, split(), None, "average"),
        (plain, split(), Views(2), "average"),
        (plain, split(), Views(2), "rotate"),
        (plain, split(), Views(2, seed=1), "average"),
    ]
    for checkpoint, images, views, use in asked:
        encoded.image_features(checkpoint, images, "train", views, use)
    encoded.class_weights(plain, NAMES, TEMPLATES, "texts")
    encoded.class_weights(plain, NAMES, TEMPLATES[:1], "texts")
    assert len(entries()) == 8


def test_views_are_averaged_or_kept_apart(loads, encoder):
    checkpoint, views, size = encoded.Checkpoint("pocket", batch_size=8), Views(3, seed=4), (32, 32)
    average = encoded.image_features(checkpoint, split(), "train", views)
    expected = np.concatenate(list(averaged_blocks(encoder, split().images, views)))
    np.testing.assert_allclose(average, expected, atol=1e-6)
    apart = encoded.image_features(checkpoint, split(), "train", views, "rotate")
    assert apart.shape == (3, *average.shape)
    for view in range(3):
        pictures = ViewedImages(split().images, size, encoder.preparation.resample, 4, view)
        np.testing.assert_allclose(apart[view], encode_images(encoder, pictures), atol=1e-6)


def test_views_need_a_preparation_of_one_size(loads):
    checkpoint = encoded.Checkpoint("pocket")
    checkpoint.preparation = checkpoint.preparation._replace(crop=None)
    with pytest.raises(UsageError, match="clip.key_views: got 2"):
        encoded.image_features(checkpoint, split(), "train", Views(2))
