"""The dispatch by data.name, and the embedded digits."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from cachefl_jax.config import default, resolve
from cachefl_jax.data import digits
from cachefl_jax.data.images import fingerprint_of
from cachefl_jax.data.sources import load_for_evaluation, load_images
from cachefl_jax.errors import UsageError

RECORDED = ["754041bc5e67", "562674792ecd", "830829da54e9"]


def test_the_digits_are_split_as_ever(config_of):
    source = load_images(config_of("digits"))
    assert [len(split.labels) for split in source[:3]] == [1077, 270, 450]
    # Recorded before digits took on fingerprints: results of older runs stay comparable.
    assert [fingerprint_of(split.images, split.labels)[:12] for split in source[:3]] == RECORDED
    assert source.notes == ()
    assert source.class_names == digits.CLASS_NAMES
    pixels = np.sort(np.concatenate([split.images for split in source[:3]]).reshape(-1, 64), axis=0)
    assert np.array_equal(pixels, np.sort(np.round(load_digits().data * (255 / 16)).astype(np.uint8), axis=0))


def test_few_shot_digits_keep_the_test_split_whole(config_of):
    config = config_of("digits", shots=3)
    source = load_images(config)
    assert np.bincount(source.train.labels).tolist() == [3] * 10
    assert [len(split.labels) for split in source[1:3]] == [30, 450]
    config.seed = 1
    assert load_images(config).train.fingerprint != source.train.fingerprint


def test_an_unknown_name_is_refused_with_all_there_are(config_of):
    with pytest.raises(UsageError, match=r"data.name: got mnits; allowed: digits \| image_folder \| hub \| idx"):
        load_images(config_of("mnits"))


MINE = """
import numpy as np
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of

def load(data):
    images = np.full((30, 8, 8, 3), 7 * len(data.path), np.uint8)
    labels = np.arange(30, dtype=np.int32) % 2
    split = LabelledImages(images, labels, fingerprint_of(images, labels))
    return ImageSet(split, None, None, ("even", "odd"), ("a {} thing.",))
"""


def test_a_users_source_is_read_as_ours_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    config = default()
    config.data.name, config.data.path, config.synthesis.source = "mine.py:load", "/abc", "held_out"
    config = resolve(config)
    assert config.data.name == f"{tmp_path}/mine.py:load"
    source = load_images(config)
    assert [len(split.labels) for split in source[:3]] == [20, 4, 6]
    assert np.all(source.train.images[0] == 28)
    assert load_for_evaluation(config, ("even", "odd")).class_names == ("even", "odd")
    config.data.name = "mine.py:np"
    with pytest.raises(UsageError, match=r"data.name: got mine.py:np \(of type module\); allowed: a .*Callable"):
        resolve(config)


def test_a_missing_package_is_told_with_the_command_that_installs_it(config_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"data.hub: got a/b; .*mend: pip install datasets"):
        load_images(config_of("hub", hub="a/b"))
    with pytest.raises(UsageError, match=r"data.hub: got nothing; allowed: OWNER/NAME"):
        load_images(config_of("hub"))


def test_importing_the_sources_loads_nothing_heavy():
    heavy = ("sklearn", "datasets", "transformers", "torch", "jax", "pandas", "pyarrow")
    code = f"import sys, cachefl_jax.data.sources; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_brought_images_tell_classes_from_sites(make_images, config_of):
    """Sites of any name lie in the classes; what the server's folders are called are classes, also for a run that asks
    for no sites."""
    folders = {f"photos/{name}/{site}": 3 for name in ("cat", "dog") for site in ("Haus Süd", "NORD")}
    root = make_images(folders | {"drawn/cat": 1, "drawn/dog": 1, "drawn/frog": 1})
    config = config_of("image_folder", path=root / "photos")
    with pytest.raises(UsageError, match=r"may be class or class/site \(classes cat, dog of") as caught:
        load_images(config)
    mends = [f"--config.data.layout={layout}" for layout in ("class", "class/site", "site/class")]
    assert caught.value.mend == " or ".join(mends)
    config.synthesis.source, config.synthesis.path = "image_folder", str(root / "drawn")
    assert load_images(config).class_names == ("cat", "dog")
    config.data.group_column = "folder"
    assert load_images(config).site_names == ("Haus Süd", "NORD")
