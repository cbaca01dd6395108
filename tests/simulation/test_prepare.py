"""What a run starts from: features of each split, who holds what, and pictures for the report."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cachefl_jax.clip.encoder import load_encoder
from cachefl_jax.clip.encoding import encode_images
from cachefl_jax.clip.views import ViewedImages
from cachefl_jax.config import default
from cachefl_jax.data.card import cells_of
from cachefl_jax.data.images import Images
from cachefl_jax.data.partition import partition_hash
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.prepare import PICTURES, SIDE, card, counted, partition_arrays, pictures, prepare
from cachefl_jax.simulation.server_set import load_all
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_points import inputs_of


@pytest.fixture(scope="module")
def folder(make_pictures, tmp_path_factory):
    """Two sites, 12 images a class."""
    counts = {"red square": 12, "green disc": 12, "blue bar": 12}
    return make_pictures(tmp_path_factory.mktemp("pictures"), counts, sites=("east", "west"))


@pytest.fixture
def prepared(folder, config_for_images):
    """(**changes) -> (config, inputs) of the folder."""

    def make(**changes):
        config = config_for_images(folder, **changes)
        return config, prepare(config)

    return make


def test_features_are_those_of_the_images_in_their_order(prepared):
    config, inputs = prepared()
    source, images, _ = load_all(config)
    encoder, bank = load_encoder("pocket"), inputs.bank
    pairs = {"train": source.train, "validation": source.validation, "test": source.test, "synthetic": images}
    for name, split in pairs.items():
        np.testing.assert_allclose(getattr(bank, name).features, encode_images(encoder, split.images), atol=1e-6)
        np.testing.assert_array_equal(getattr(bank, name).labels, split.labels)
    assert bank.class_names == source.class_names
    assert bank.metadata["synthetic"] == {
        "source": "held_out", "images_per_class": 3, "fingerprint": images.fingerprint,
    }  # fmt: skip
    assert inputs.server.synthetic.shape == (3, 2, bank.width)
    for label, keys in enumerate(inputs.server.synthetic):
        np.testing.assert_array_equal(keys, bank.synthetic.features[bank.synthetic.labels == label][:2])
    assert inputs.whole_model["name"] == "pocket CLIP"
    assert inputs.whole_model["bytes"] == encoder.byte_count


def test_a_changed_look_changes_training_features_alone(prepared):
    _, plain = prepared()
    config, changed = prepared(**{"partition.change": "brightness"})
    bank = changed.bank
    for name in ("validation", "test", "synthetic"):
        np.testing.assert_array_equal(getattr(bank, name).features, getattr(plain.bank, name).features)
    np.testing.assert_array_equal(bank.train.labels, plain.bank.train.labels)
    moved = np.abs(bank.train.features - plain.bank.train.features).max(axis=1)
    assert (moved > 1e-4).mean() > 0.9
    assert changed.partition.owners.tolist() == plain.partition.owners.tolist()
    told = card(config, changed)
    assert (told["change"], told["change_strength"]) == ("brightness", 0.5)
    assert (card(*prepared())["change"], card(*prepared())["change_strength"]) == ("none", None)


def test_the_same_rows_under_another_seed_change_otherwise(prepared, make_pictures, tmp_path):
    """With keys from elsewhere and sites as clients the seed chooses nothing but the change."""
    brought = make_pictures(tmp_path, {"red square": 3, "green disc": 3, "blue bar": 3}, seed=2)
    fields = {"synthesis.source": "image_folder", "synthesis.path": str(brought), "data.group_column": "folder"}
    fields |= {"partition.name": "natural", "partition.clients": 0, "partition.change": "brightness"}
    first, again, other = (prepared(seed=seed, **fields)[1] for seed in (0, 0, 1))
    assert partition_hash(first.partition) == partition_hash(other.partition)
    np.testing.assert_array_equal(first.bank.train.features, again.bank.train.features)
    assert (np.abs(first.bank.train.features - other.bank.train.features).max(axis=1) > 1e-4).mean() > 0.9


def test_views_change_keys_and_training_features_and_nothing_else(prepared):
    _, plain = prepared()
    config, viewed = prepared(**{"clip.key_views": 3, "clip.train_views": 2})
    assert np.abs(viewed.server.synthetic - plain.server.synthetic).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(viewed.server.synthetic, axis=-1), 1, atol=1e-6)
    for name in ("validation", "test"):
        np.testing.assert_array_equal(getattr(viewed.bank, name).features, getattr(plain.bank, name).features)
    assert plain.bank.train_views is None
    assert viewed.bank.train_views.shape == (2, *plain.bank.train.features.shape)
    np.testing.assert_array_equal(viewed.bank.train.features, viewed.bank.train_views[0])
    source, _, _ = load_all(config)
    encoder = load_encoder("pocket")
    view = ViewedImages(source.train.images, encoder.preparation.size, encoder.preparation.resample, 0, 1)
    np.testing.assert_allclose(viewed.bank.train_views[1], encode_images(encoder, view), atol=1e-6)


def test_bfloat16_gives_nearly_the_features_of_float32(prepared):
    (_, wide), (_, narrow) = prepared(), prepared(**{"clip.dtype": "bfloat16"})
    for name in ("train", "test", "synthetic"):
        one, other = getattr(wide.bank, name).features, getattr(narrow.bank, name).features
        assert other.dtype == np.float32
        cosines = (one * other).sum(axis=1)
        assert cosines.min() > 0.999
        assert not np.array_equal(one, other)


def test_inputs_depend_on_the_heeded_fields_alone(folder, config_for_images):
    config = config_for_images(folder, **{"clip.key_views": 2, "partition.change": "noise"})
    bare = ConfigDict({name: config[name] for name in ("seed", "data", "clip", "synthesis", "partition")})
    bare.cache = {"keys_per_class": config.cache.keys_per_class}
    bare.participation = {"profiles": config.participation.profiles}
    whole, least = prepare(config), prepare(bare)  # a field beyond these would be missed
    np.testing.assert_array_equal(whole.server.synthetic, least.server.synthetic)
    np.testing.assert_array_equal(whole.bank.train.features, least.bank.train.features)
    # A sweep's points share inputs by these very fields.
    known, shared = {}, Shared()
    first = inputs_of(config_for_images(folder), known, shared)
    for field in ("cache.alpha", "local.learning_rate", "rounds"):
        assert inputs_of(config_for_images(folder, **{field: 3}), known, shared) is first
    for field, value in (("seed", 1), ("data.shots", 2), ("cache.keys_per_class", 1), ("partition.clients", 2)):
        assert inputs_of(config_for_images(folder, **{field: value}), known, shared) is not first


def test_sites_are_clients_and_their_number_goes_into_the_config(prepared):
    config, inputs = prepared(**{
        "data.group_column": "folder", "partition.name": "natural", "partition.clients": 0, "cohort": 2,
    })  # fmt: skip
    source, _, _ = load_all(config)
    assert inputs.partition.clients == 2
    for client, site in enumerate(("east", "west")):
        rows = inputs.partition.indices[slice(*inputs.partition.offsets[client : client + 2])]
        assert {source.train.images.name(row).split("/")[-2] for row in rows} == {site}
    found = counted(config, inputs)
    assert (found.partition.clients, config.partition.clients) == (2, 0)
    config.cohort = 3
    with pytest.raises(UsageError, match="cohort: got 3; allowed: 0 to partition.clients, 2"):
        counted(config, inputs)


def test_a_number_of_clients_that_was_given_stays(prepared):
    config, inputs = prepared()
    assert counted(config, inputs) is config


def test_what_a_run_keeps_of_its_partition_agrees_with_itself(prepared):
    config, inputs = prepared()
    arrays, told = partition_arrays(inputs), card(config, inputs)
    cells = cells_of(arrays, inputs.partition.clients, 3)
    np.testing.assert_array_equal(cells.sizes, np.diff(arrays["offsets"]))
    assert told["hash"] == partition_hash(inputs.partition)
    assert (told["clients"], told["samples"], told["classes"]) == (3, len(inputs.bank.train.labels), 3)
    assert json.loads(json.dumps(told)) == told


def test_a_bank_without_text_or_validation_says_so(make_bank):
    config = default()
    config.data.name, config.synthesis.source = "feature_bank", "bank"
    config.cache.keys_per_class = 2
    config.data.path = str(make_bank(text_features=None, val_features=None, val_labels=None))
    config.data.validation_share = 0.0
    notes = prepare(config).notes
    assert [note.split(":")[0] for note in notes] == [
        "Features came from a bank", "The bank has no text features", "There are no validation rows",
    ]  # fmt: skip


def test_a_bank_whose_class_weights_are_equal_is_refused(make_bank):
    text = np.random.default_rng(0).normal(size=(4, 8))
    text[3] = 2 * text[1]
    config = default()
    config.data.name, config.synthesis.source = "feature_bank", "bank"
    config.cache.keys_per_class, config.data.path = 2, str(make_bank(text_features=text))
    with pytest.raises(UsageError, match="classes: got equal text features for class 1 = class 3; allowed"):
        prepare(config)


@pytest.mark.parametrize("source", ["held_out", "image_folder"])
def test_an_image_of_one_colour_is_no_key(make_pictures, config_for_images, tmp_path, source):
    """Wherever it comes from; elsewhere in the data it may well be one."""
    counts = {"red square": 12, "green disc": 12, "blue bar": 12}
    data, brought = (make_pictures(tmp_path / name, counts) for name in ("data", "brought"))
    black = Image.fromarray(np.zeros((24, 24, 3), np.uint8))
    for path in ((data if source == "held_out" else brought) / "blue bar").iterdir():
        black.save(path)
    fields = {"synthesis.source": source, "synthesis.path": str(brought) if source == "image_folder" else ""}
    with pytest.raises(UsageError, match=r"synthesis: got .*blue bar/\d+.png \(of one colour\)"):
        prepare(config_for_images(data, **fields))


def test_pictures_are_the_first_of_each_class_as_many_as_the_poorest_has(prepared):
    config, inputs = prepared()
    source, _, _ = load_all(config)
    shown = inputs.images()
    assert shown["synthetic"].shape == (3, 3, 24, 24, 3)  # small ones stay as they are
    assert shown["real"].shape[:2] == (3, min(PICTURES, np.bincount(source.train.labels).min()))
    first = source.train.images[int(np.flatnonzero(source.train.labels == 2)[0])]
    np.testing.assert_array_equal(shown["real"][2, 0], np.asarray(first))


def test_changed_images_are_pictured_as_their_clients_see_them(prepared):
    plain, changed = (prepared(**{"partition.change": kind})[1].images() for kind in ("none", "brightness"))
    np.testing.assert_array_equal(plain["synthetic"], changed["synthetic"])
    assert (plain["real"] != changed["real"]).any()


@pytest.mark.parametrize(("height", "width"), [(SIDE, SIDE), (8, 6)])
def test_small_arrays_are_pictured_as_they_are(height, width):
    images = np.random.default_rng(0).integers(0, 256, (10, height, width, 3), dtype=np.uint8)
    labels = np.repeat([1, 0], 5)
    np.testing.assert_array_equal(pictures(images, labels, 2), np.stack([images[5:], images[:5]]))
    grey = pictures(images[..., 0], labels, 2)
    np.testing.assert_array_equal(grey[..., 2], pictures(images, labels, 2)[..., 0])


def test_large_arrays_become_thumbnails_and_of_many_classes_one_each():
    images = np.random.default_rng(0).integers(0, 256, (300, SIDE + 1, 20, 3), dtype=np.uint8)
    assert pictures(images, np.arange(300) % 10, 10).shape == (10, PICTURES, SIDE, SIDE, 3)
    assert pictures(images, np.arange(300), 300).shape == (300, 1, SIDE, SIDE, 3)


def test_small_ones_of_several_sizes_are_made_alike():
    images = [np.full((side, side, 3), side, np.uint8) for side in (8, 16)] * PICTURES
    shown = pictures(images, np.arange(2 * PICTURES) % 2, 2)
    assert shown.shape == (2, PICTURES, SIDE, SIDE, 3)
    assert (shown[0] == 8).all()
    assert (shown[1] == 16).all()


def test_only_what_is_pictured_is_decoded():
    decoded = []
    images = Images(40, lambda row: decoded.append(row) or Image.new("L", (90, 30)), str)
    assert pictures(images, np.arange(40) % 2, 2).shape == (2, PICTURES, SIDE, SIDE, 3)
    assert sorted(decoded) == list(range(2 * PICTURES))
