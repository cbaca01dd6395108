"""Shares of every class of every site, and near-duplicates on one side of a split."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cachefl_jax.data.duplicates import duplicate_groups
from cachefl_jax.data.holding_out import groups_across, hold_out
from cachefl_jax.data.images import ImageSet, LabelledImages
from cachefl_jax.data.sources import load_for_evaluation, load_images
from cachefl_jax.errors import UsageError

pytestmark = pytest.mark.quick


def picture(seed: int, size: int = 48) -> Image.Image:
    """Coloured clouds, with large and small shapes as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (4, 8, 24)]
    sums = [np.asarray(layer.resize((size, size), Image.Resampling.BICUBIC), np.float32) for layer in layers]
    return Image.fromarray((sums[0] * 0.5 + sums[1] * 0.3 + sums[2] * 0.2).astype(np.uint8))


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


COPIES = {
    "compressed": compressed,
    "half": lambda image: image.resize((24, 24)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
    "with alpha": lambda image: image.convert("RGBA"),
}


def split_of(pictures) -> LabelledImages:
    return LabelledImages(pictures, np.zeros(len(pictures), np.int32), "")


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_a_picture_are_found_and_other_pictures_are_not(copy):
    originals = [picture(seed) for seed in range(30)]
    groups = duplicate_groups([split_of(originals), split_of([COPIES[copy](each) for each in originals])])
    assert groups[:30].tolist() == groups[30:].tolist()
    assert len(set(groups.tolist())) == 30


def test_plain_images_are_the_same_only_to_the_pixel():
    plain = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black", "white", (255, 255, 254))]
    plain.append(plain[0].copy())
    plain[-1].putpixel((3, 3), (250, 250, 250))
    groups = duplicate_groups([split_of(plain)])
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 4


def test_what_cannot_be_decoded_is_no_duplicate_of_anything(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.png").write_bytes(b"no image")
        picture(1).save(tmp_path / name / "1.png")

    class Broken(list):
        def __getitem__(self, row):
            raise UsageError("image", "broken", "whole", "replace it")

    groups = duplicate_groups([split_of(Broken([0, 0])), split_of([picture(1)])])
    assert len(set(groups.tolist())) == 3


def test_groups_are_transitive():
    """What lies in between brings two together: no side of a split may see one of them without the other."""
    first, last = picture(1), picture(2)
    steps = [Image.blend(first, last, share) for share in np.linspace(0, 1, 40)]
    groups = duplicate_groups([split_of(steps)])
    assert len(set(groups.tolist())) == 1
    assert len(set(duplicate_groups([split_of([first, last])]).tolist())) == 2


@pytest.fixture
def sites(tmp_path):
    """site1..3 of class folders in different numbers; gives a function that writes them in one of two layouts."""

    def make(layout: str = "site/class"):
        counts, seeds = {"site1": (10, 5), "site2": (3, 20), "site3": (2, 1)}, itertools.count()
        for site, numbers in counts.items():
            for class_name, count in zip(("cat", "dog"), numbers, strict=True):
                inner = f"{site}/{class_name}" if layout == "site/class" else f"{class_name}/{site}"
                (tmp_path / inner).mkdir(parents=True)
                for number in range(count):
                    picture(next(seeds)).save(tmp_path / inner / f"{number}.png")
        return tmp_path

    return make


def table(source: ImageSet, role: str) -> list[list[int]]:
    """Images of each class at each site."""
    split = getattr(source, role)
    counts = np.zeros((len(source.site_names), len(source.class_names)), int)
    np.add.at(counts, (split.groups, split.labels), 1)
    return counts.tolist()


@pytest.mark.parametrize("layout", ["site/class", "class/site"])
def test_every_class_of_every_site_gives_its_share(sites, config_of, layout):
    data = {"path": sites(layout), "group_column": "folder", "held_out_of": "site"}
    config = config_of("image_folder", **data, validation_share=0.1, test_share=0.3)
    source = load_images(config)
    assert source.site_names == ("site1", "site2", "site3")
    assert table(source, "test") == [[3, 2], [1, 6], [1, 0]]
    assert table(source, "validation") == [[1, 1], [1, 2], [0, 0]]
    assert table(source, "train") == [[6, 2], [1, 12], [1, 1]]
    for split in source[:3]:
        names = [split.images.name(row) for row in range(len(split.labels))]
        assert [source.site_names[group] in name for group, name in zip(split.groups, names, strict=True)]
    assert any("0.3 of every class of every site, 13 images, was held out" in note for note in source.notes)
    assert any(note.startswith("Folders taken for sites, and those") for note in source.notes)
    again = load_for_evaluation(config, source.class_names)
    assert again.test.fingerprint == source.test.fingerprint


def test_sites_that_are_not_told_give_no_shares(sites, config_of):
    config = config_of("image_folder", path=sites(), held_out_of="site")
    with pytest.raises(UsageError, match=r"data\.held_out_of: got site; allowed: class where"):
        load_images(config)


def test_images_to_evaluate_on_need_no_sites(make_images, config_of):
    """A run by sites is evaluated on a folder of classes alone."""
    path = make_images({"cat": 10, "dog": 10})
    config = config_of("image_folder", path=path, group_column="folder", held_out_of="site")
    source = load_for_evaluation(config, ("cat", "dog"))
    assert np.bincount(source.test.labels).tolist() == [2, 2]


def duplicated(sites):
    """The folder of `sites` in which ten pictures of site2/dog lie at site1 too, and two as another class."""
    root = sites()
    for number in range(10):
        compressed(Image.open(root / f"site2/dog/{number}.png")).save(root / f"site1/dog/copy{number}.jpg", quality=90)
    for number in (11, 12):
        Image.open(root / f"site2/dog/{number}.png").save(root / f"site3/cat/copy{number}.png")
    return root


def test_near_duplicates_lie_on_one_side(sites, config_of):
    path = duplicated(sites)
    data = {"path": path, "group_column": "folder", "held_out_of": "site", "test_share": 0.3}
    sides = {}
    for duplicates in ("ignore", "together"):
        source = load_images(config_of("image_folder", **data, duplicates=duplicates))
        side = {
            split.images.name(row).removeprefix(f"{path}/"): role
            for role, split in zip(("train", "validation", "test"), source, strict=False)
            for row in range(len(split.labels))
        }
        assert len(side) == 53
        pairs = [(f"site2/dog/{number}.png", f"site1/dog/copy{number}.jpg") for number in range(10)]
        pairs += [(f"site2/dog/{number}.png", f"site3/cat/copy{number}.png") for number in (11, 12)]
        sides[duplicates] = [side[one] == side[other] for one, other in pairs]
    assert all(sides["together"])
    assert not all(sides["ignore"])
    (note,) = [note for note in source.notes if "near-duplicates" in note]
    told = "24 of 53 images are near-duplicates of others, in 12 groups of at most 2; each group lies in one split."
    assert note.startswith(f"{told} Across sites lie 12: ")
    assert "Across classes lie 2: " in note
    assert set(side.values()) == {"train", "validation", "test"}


def test_a_single_group_is_told_in_the_singular(sites, config_of):
    path = sites()
    compressed(Image.open(path / "site2/dog/0.png")).save(path / "site1/dog/copy.jpg", quality=90)
    data = {"path": path, "group_column": "folder", "held_out_of": "site", "duplicates": "together"}
    (note,) = [note for note in load_images(config_of("image_folder", **data)).notes if "near-duplicates" in note]
    told = "2 of 42 images are near-duplicates of others, in 1 group, which lies in one split. Across sites lies 1: "
    assert note.startswith(told)


def test_splits_that_the_source_gives_stay_and_their_duplicates_are_told(make_images, config_of):
    path = make_images({"train/cat": 6, "train/dog": 6, "test/cat": 3, "test/dog": 3})
    for number in range(2):
        compressed(picture(number)).save(path / f"test/cat/{number}.png")
        picture(number).save(path / f"train/cat/{number}.png")
    source = load_images(config_of("image_folder", path=path, duplicates="together", validation_share=0.0))
    assert len(source.test.labels) == 6
    told = "Near-duplicates of training images in the test split: 2 of 6 images. The source gives these splits"
    assert any(note.startswith(told) for note in source.notes)


def test_two_rows_of_every_group_that_lies_across():
    groups, numbers = np.array([5, 2, 5, 2, 7, 5]), np.array([0, 1, 1, 1, 0, 2])
    assert groups_across(groups, numbers) == [(0, 2)]


def test_without_duplicates_the_same_images_are_held_out(sites, config_of):
    path = sites()
    parts = [load_images(config_of("image_folder", path=path, duplicates=each)) for each in ("ignore", "together")]
    assert [split.fingerprint for split in parts[0][:3]] == [split.fingerprint for split in parts[1][:3]]
    assert any(note == "No near-duplicates were found among 41 images." for note in parts[1].notes)
    assert hold_out(parts[0], config_of("image_folder", path=path).data) == parts[0]


@pytest.mark.parametrize("layout", ["{site}/{name}", "{name}/{site}"])
def test_folders_of_synthetic_images_tell_classes_from_sites_of_any_name(make_images, config_of, layout):
    real = [layout.format(site=site, name=name) for site in ("Berlin", "Paris") for name in ("crack", "loose_bolt")]
    drawn = {"drawn/crack": 2, "drawn/Loose bolt": 2, "drawn/rust": 2}
    path = make_images({f"real/{folder}": 5 for folder in real} | drawn)
    config = config_of("image_folder", path=path / "real", group_column="folder", held_out_of="site")
    with pytest.raises(UsageError, match=r"^data\.layout"):
        load_images(config)
    config.synthesis.update({"source": "image_folder", "path": str(path / "drawn")})
    source = load_images(config)
    assert source.site_names == ("Berlin", "Paris")
    assert source.class_names == ("crack", "loose_bolt")
    assert table(source, "test") == [[1, 1], [1, 1]]
