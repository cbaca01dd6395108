"""Where the rows come from: a bank of features, or images. A source of images is a function of the config's data group
that gives a `cachefl_jax.data.images.ImageSet`."""

import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, lookup
from cachefl_jax.config.ranges import (
    CHOOSE,
    NONE,
    TEXT,
    TEXTS,
    at_least,
    between,
    distinct,
    one_named,
    one_of,
    three_splits,
    within,
)
from cachefl_jax.errors import UsageError

IMAGE_SOURCES = {
    "digits": "cachefl_jax.data.sources:digits",
    "image_folder": "cachefl_jax.data.folder:load",
    "hub": "cachefl_jax.data.hub:load",
    "idx": "cachefl_jax.data.idx:load",
}
SUITE = tuple(sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "data" / "suite").glob("*.json")))
SOURCES = {**IMAGE_SOURCES, "feature_bank": "", **dict.fromkeys(SUITE, "")}  # the latter are read in their own ways
ONE_OF_OURS, WORDS = one_named(SOURCES)[0], one_named({**SOURCES, "FILE.json": ""})[1]
LAYOUTS = (
    "class", "class/site", "site/class", "split/class", "split/class/site", "split/site/class", "class/split",
    "site/split/class",
)  # fmt: skip
SPLITS = "name what the source calls training, validation and test rows; '' for what it has not"


def check(config: ConfigDict) -> None:
    """What the place that data come from demands of other fields."""
    data = config.data
    wanted = {
        "feature_bank": ("data.path", "the path of an .npz feature bank", "X.npz"),
        "image_folder": ("data.path", "the folder that holds the images", "DIR"),
        "idx": ("data.path", "the folder that holds the IDX files", "DIR"),
        "hub": ("data.hub", "a data set's OWNER/NAME on the hub, or a folder that datasets saved", "..."),
    }
    if data.name in wanted and not lookup(config, wanted[data.name][0]):
        field, allowed, such = wanted[data.name]
        raise UsageError(field, "", allowed, f"--config.{field}={such}")
    if data.validation_share + data.test_share >= 1:
        allowed = f"less than {1 - data.validation_share:g}, what data.validation_share leaves"
        raise UsageError("data.test_share", data.test_share, allowed, "lower one of them")
    if data.held_out_of == "site" and not data.group_column:
        mend = "--config.data.group_column=folder for images in folders of sites, or the hub's column"
        raise UsageError("data.held_out_of", "site", "class where data.group_column tells no sites", mend)
    if data.split_file and not data.path:
        raise UsageError("data.path", "", "the folder that the split file's paths start from", "--config.data.path=DIR")
    if data.name == "feature_bank":
        for field, plain in (("partition.change", "none"), ("clip.key_views", 0), ("clip.train_views", 0)):
            if lookup(config, field) != plain:
                mend = f"--config.{field}={plain}, or bring images: data.name=image_folder"
                raise UsageError(field, lookup(config, field), f"{plain} for a feature bank, which has no images", mend)


def is_described(name: str) -> bool:
    """Whether class names and prompts of the source are known beforehand: a named data set, or a user's own JSON."""
    return name in SUITE or name.endswith(".json")


def from_files(config: ConfigDict) -> bool:
    return config.data.name not in ("feature_bank", "digits")


def from_hub(config: ConfigDict) -> bool:
    return config.data.name == "hub" or (is_described(config.data.name) and not config.data.path)


FILES = ("data.splits", "data.class_names", "data.broken", "data.group_column", "data.split_file")
IMAGES = ("data.test_share", "data.held_out_of", "data.duplicates")
HUB = ("data.hub", "data.hub_config", "data.image_column", "data.label_column")


# fmt: off
DATA = Part((
    Field("data.name", "digits", "where the rows come from",
          lambda name: is_described(name) or ONE_OF_OURS(name), WORDS, CHOOSE),
    Field("data.path", "", "a bank's file; the folder of image_folder and idx; a named data set's own local folder",
          *TEXT, NONE),
    Field("data.shots", 0, "training rows a class; 0 = all. Else validation has at most 4 a class, as in CoOp",
          *at_least(0), "0 keeps all rows"),
    Field("data.hub", "", "data.name=hub: OWNER/NAME on the Hugging Face hub, or a folder that datasets saved",
          *TEXT, NONE),
    Field("data.hub_config", "", "the hub data set's configuration, where it has several", *TEXT, NONE),
    Field("data.layout", "auto", "image_folder: what the folders are from data.path down, such as site/class",
          *one_of("auto", *LAYOUTS), "auto tells the layouts apart by names and structure"),
    Field("data.splits", ("train", "validation", "test"), "what the source calls its splits; '' = it has none",
          three_splits, "three different names, the first not empty", SPLITS),
    Field("data.image_column", "image", "hub: the column of images", *TEXT, NONE),
    Field("data.label_column", "label", "hub: the column of labels", *TEXT, NONE),
    Field("data.group_column", "", "where a row came from, for partition.name=natural; image_folder: 'folder'",
          *TEXT, NONE),
    Field("data.left_out_sites", (), "sites of which no image is read at all", distinct,
          "texts: names of sites, or numbers from 0 on, such as ('celle','4')", NONE),
    Field("data.split_file", "", "image_folder: which files are train, val and test", *TEXT, NONE),
    Field("data.validation_share", 0.1, "of the training rows, held out where the source has no such split",
          *within(0, 1), "0 makes no validation split"),
    Field("data.test_share", 0.2, "of every class, held out where the source has no such split",
          *between(0, 1), "0.2 holds out a fifth of every class"),
    Field("data.held_out_of", "class", "what gives these shares: every class, or every class of every site",
          *one_of("class", "site"), "site needs data.group_column"),
    Field("data.duplicates", "ignore", "together: near-duplicate images never lie on two sides of a split",
          *one_of("ignore", "together"), CHOOSE),
    Field("data.class_names", (), "the classes' names; none = the source's own", *TEXTS, NONE),
    Field("data.broken", "stop", "what a broken image does: it stops the run, or is left out and counted",
          *one_of("stop", "skip"), CHOOSE),
    Field("data.max_pixels", 178_956_970, "of one picture; a larger one counts as broken (Pillow's own limit)",
          *at_least(2, 2**62), "raise it"),
), check, (
    Unused(IMAGES, lambda config: config.data.name != "feature_bank", "data.name"),
    Unused(("data.path",), lambda config: config.data.name != "digits", "data.name"),
    Unused(FILES, from_files, "data.name"),
    Unused(HUB, from_hub, "data.name"),
    Unused(("data.left_out_sites",), lambda config: bool(config.data.group_column), "data.group_column"),
))
