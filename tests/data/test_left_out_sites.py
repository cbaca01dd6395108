"""Sites that are left out, by name or by number: of the images, or of the federation alone."""

import collections

import numpy as np
import pytest

from cachefl_jax.config import default, resolve
from cachefl_jax.data.partition import make_partition, thinned
from cachefl_jax.data.sites import site_numbers, without_sites
from cachefl_jax.data.sources import read_source
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.prepare import images_of

NAMES = ("aachen", "bonn", "celle")


@pytest.fixture(scope="module")
def root(make_pictures, tmp_path_factory):
    """Two classes at three sites, of which each has images of its own number: 4, 6 and 8 of each class."""
    counts = {
        f"{site}/{name}": 4 + 2 * number for number, site in enumerate(NAMES) for name in ("blue bar", "red square")
    }
    return make_pictures(tmp_path_factory.mktemp("sites"), counts)


def config_of(root, **changes):
    config = default()
    config.data.name, config.data.path, config.data.layout = "image_folder", str(root), "site/class"
    config.data.group_column, config.partition.name, config.partition.clients = "folder", "natural", 0
    config.synthesis.source, config.synthesis.images_per_class, config.cache.keys_per_class = "held_out", 1, 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("words", [("bonn",), ("1",)])
def test_images_of_a_site_that_is_left_out_are_in_no_split(root, words):
    source, *_ = images_of(config_of(root, **{"data.left_out_sites": words}))
    held = collections.Counter(source.site_names[site] for site in source.train.groups)
    assert set(held) == {"aachen", "celle"}
    for split in (source.train, source.validation, source.test):
        assert not any("/bonn/" in split.images.name(row) for row in range(len(split.labels)))
    assert "Left out by data.left_out_sites: bonn (12 images)." in source.notes


def test_out_of_the_federation_alone_its_test_images_stay(root):
    config = config_of(root)
    source = without_sites(read_source(config.data), ())
    partition = make_partition(source.train.labels, config.partition, 0, source.train.groups)
    config.partition.left_out = ("bonn",)
    fewer, rows = thinned(partition, source.train.labels, config.partition, 0, NAMES)
    assert set(source.train.groups[rows]) == {0, 2}
    np.testing.assert_array_equal(fewer.sizes, [8, 16])


def test_a_name_counts_before_a_number():
    assert site_numbers("field", ("2",), ("2", "1", "0"), 3) == [0]
    assert site_numbers("field", ("0", "2"), (), 3) == [0, 2]


@pytest.mark.parametrize("field", ["data.left_out_sites", "partition.left_out"])
@pytest.mark.parametrize("words", [("cele",), ("3",), NAMES, ("aachen", "0")])
def test_what_is_no_site_is_told_with_all_names_before_anything_is_encoded(root, field, words):
    config = config_of(root, **{field: words, "clip.checkpoint": "/no/such/encoder"})
    with pytest.raises(
        UsageError, match=rf"{field}: got .*; allowed: aachen, bonn, celle, or numbers from 0 to 2"
    ) as told:
        images_of(config)
    assert told.value.mend == ("did you mean celle?" if words == ("cele",) else "correct the names")


def test_twice_the_same_site_is_refused_before_anything_is_read(root):
    with pytest.raises(UsageError, match="partition.left_out: got .*; allowed: texts: names of sites, or numbers"):
        resolve(config_of(root, **{"partition.left_out": ("bonn", "bonn")}))
