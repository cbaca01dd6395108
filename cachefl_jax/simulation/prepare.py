"""A config to what a run starts from: the feature bank, who holds what, and images to look at."""

import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from cachefl_jax.clip.distinct import check_weights
from cachefl_jax.config import validate
from cachefl_jax.data import FeatureBank, Partition, Split, load_bank, make_partition
from cachefl_jax.data.bank import hold_out_validation, take_shots
from cachefl_jax.data.card import count_arrays, partition_card
from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of, select
from cachefl_jax.data.partition import partition_hash, thinned
from cachefl_jax.data.sampling import VALIDATION_SHOTS, splits_of
from cachefl_jax.data.sites import site_numbers
from cachefl_jax.methods import Server
from cachefl_jax.simulation.keys import chosen, keys_first, leak_notes, member_rows, server_of
from cachefl_jax.simulation.made_of import bank_parts, image_parts, named_parts

if TYPE_CHECKING:
    from cachefl_jax.clip.views import Views
    from cachefl_jax.simulation.encoded import Checkpoint

PICTURES = 8  # images a class on the report's contact sheets
SIDE = 64  # pixels of one, where images are large or of several sizes
MOST_PICTURED = 200  # classes; of more, one image each


class Inputs(NamedTuple):
    """All that training needs, and what the report shows of it."""

    bank: FeatureBank
    partition: Partition
    server: Server
    images: Callable[[], dict[str, np.ndarray]] | None  # () -> synthetic, real: [N, k, H, W, 3] uint8
    whole_model: dict | None  # name, bytes and FLOPs of the encoder, where it is known
    notes: list[str]
    parts: dict[str, str]  # digests of what all this was made of, by the names of `made_of`
    told: tuple[str, ...] = ()  # those of the notes that the command tells before it trains
    pixels: Callable[[str], np.ndarray] | None = None  # a split's name -> its images, [n, H, W, 3] uint8; bank: None
    source: ImageSet | None = None  # the images behind the features; bank: None
    test_clients: np.ndarray | None = None  # [n] the client that each test row came from, -1 for none; None: unknown
    validation_clients: np.ndarray | None = None  # the same of the validation rows
    members: tuple[tuple[np.ndarray, ...], ...] = ()  # [N][K] rows of bank.synthetic that each key is made of
    synthetic: LabelledImages | None = None  # the server's images, a row each of bank.synthetic; bank: None


def prepare(config: ConfigDict) -> Inputs:
    """Builds everything that can be refused before a file is written.

    Raises UsageError: a file, checkpoint or size that the config asks for is not to be had."""
    inputs = from_bank(config) if config.data.name == "feature_bank" else from_images(config)
    notes = list(inputs.notes)
    if inputs.bank.text_features is None:
        notes.append("The bank has no text features: the zero-shot term is zero, and zero_shot has no accuracy.")
    else:
        check_weights(inputs.bank.text_features, inputs.bank.class_names)
    if inputs.bank.validation is None:
        notes.append("There are no validation rows: nothing was chosen on them, and no validation accuracy is given.")
    return inputs._replace(notes=notes)


def counted(config: ConfigDict, inputs: Inputs) -> ConfigDict:
    """The config with the number of clients that was found, where it leaves it to the data.

    Raises UsageError: a cohort is larger."""
    if config.partition.clients:
        return config
    config = config.copy_and_resolve_references()
    config.partition.clients = inputs.partition.clients
    validate(config)
    return config


def from_bank(config: ConfigDict) -> Inputs:
    """A user's own features."""
    notes = ["Features came from a bank: the encoder is not known here, so bytes are not set against a whole model."]
    bank, held_out = hold_out_validation(load_bank(pathlib.Path(config.data.path)), config.data.validation_share)
    bank, told = few_shots(bank, config)
    partition = make_partition(bank.train.labels, config.partition, config.seed)
    if thins(config):
        partition, rows = thinned(partition, bank.train.labels, config.partition, config.seed)
        bank = bank._replace(train=Split(bank.train.features[rows], bank.train.labels[rows]))
    parts = {"partition": partition_hash(partition), **bank_parts(bank), **named_parts(config)}
    keys, members = chosen(config, bank)
    return Inputs(
        bank, partition, server_of(keys, bank), None, None, [*notes, *held_out, *told], parts, (*held_out, *told),
        members=members,
    )  # fmt: skip


def few_shots(bank: FeatureBank, config: ConfigDict) -> tuple[FeatureBank, tuple[str, ...]]:
    """(the bank with data.shots rows of each class, a note where that are fewer); validation as of images."""
    shots, taken, counts = config.data.shots, {}, []
    for name, most in (("train", shots), ("validation", min(shots, VALIDATION_SHOTS))):
        split = getattr(bank, name)
        if split is not None and shots:
            taken[name] = take_shots(split, most, config.seed)
            counts.append(f"{len(taken[name].labels)} of {len(split.labels)} {name} rows")
    return bank._replace(**taken), (f"data.shots={shots} takes {', '.join(counts)}.",) if counts else ()


def from_images(config: ConfigDict) -> Inputs:
    """Images of any source, encoded by a CLIP, beside the server's set."""
    # Imported here: a feature bank need not wait for what this brings.
    from cachefl_jax.data.skew import change_images
    from cachefl_jax.simulation.encoded import Checkpoint, pixels_by_split

    source, synthetic, manifest, partition = images_of(config)
    changed = source._replace(train=change_images(source.train, partition, config.partition, config.seed))
    checkpoint = Checkpoint(config.clip.checkpoint, config.clip.dtype, config.clip.batch_size)
    bank, whole_model = encode(config, checkpoint, changed, synthetic)
    bank.metadata["synthetic"] = manifest
    if thins(config):
        partition, rows = thinned(partition, bank.train.labels, config.partition, config.seed, names_of(config, source))
        views = bank.train_views if bank.train_views is None else bank.train_views[:, rows]
        bank = bank._replace(train=Split(bank.train.features[rows], bank.train.labels[rows]), train_views=views)
        source, changed = (each._replace(train=select(each.train, rows)) for each in (source, changed))
    keys, members = chosen(config, bank, synthetic.real)
    if config.synthesis.source == "image_folder":
        leaks = leak_notes(source, select(synthetic, member_rows(members)))
        source = source._replace(notes=(*source.notes, *leaks))
    server = server_of(keys, bank, encoder=checkpoint.whole, templates=templates_of(config, source))
    parts = parts_of_images(source, synthetic, partition, checkpoint.weights) | named_parts(config)

    def images() -> dict[str, np.ndarray]:
        kinds = {"synthetic": keys_first(synthetic, members), "real": changed.train}
        return {name: pictures(split.images, split.labels, bank.classes) for name, split in kinds.items()}

    pixels = pixels_by_split(checkpoint, splits_of(changed), config.data.name, turning_views(config))
    return Inputs(
        bank, partition, server, images, whole_model, list(source.notes), parts, source.notes, pixels, source,
        *(clients_of(config, source, split) for split in (source.test, source.validation)), members, synthetic,
    )  # fmt: skip


def thins(config: ConfigDict) -> bool:
    """Whether clients are to have fewer rows than were dealt to them, or some are left out."""
    return bool(config.partition.shots or config.partition.left_out)


def clients_of(config: ConfigDict, source: ImageSet, split: LabelledImages | None) -> np.ndarray | None:
    """[n] the client that each image of a split came from, -1 for none; None where sites are no clients, or nobody
    knows."""
    train, groups = source.train.groups, None if split is None else split.groups
    if config.partition.name != "natural" or train is None or groups is None:
        return None
    sites = np.unique(train)  # in the order of the clients
    places = np.minimum(np.searchsorted(sites, groups), len(sites) - 1)
    return np.where(sites[places] == groups, places, -1).astype(np.int32)


def images_of(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict, Partition]:
    """(the source's images, the server's, how those were made, who holds what)."""
    from cachefl_jax.simulation.server_set import load_all

    source, synthetic, manifest = load_all(config)
    partition = make_partition(source.train.labels, config.partition, config.seed, source.train.groups)
    if config.partition.left_out:  # a name that is wrong is told before anything is encoded
        site_numbers("partition.left_out", config.partition.left_out, names_of(config, source), partition.clients)
    return source, synthetic, manifest, partition


def parts_of(config: ConfigDict) -> dict[str, str]:
    """What a run of this config would be made of now, without encoding anything."""
    if config.data.name == "feature_bank":
        return from_bank(config).parts
    from cachefl_jax.simulation.encoded import Checkpoint

    source, synthetic, _, partition = images_of(config)
    if thins(config):
        names = names_of(config, source)
        partition, rows = thinned(partition, source.train.labels, config.partition, config.seed, names)
        source = source._replace(train=select(source.train, rows))
    clip = config.clip
    weights = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size).weights
    return parts_of_images(source, synthetic, partition, weights) | named_parts(config)


def parts_of_images(source: ImageSet, synthetic: LabelledImages, partition: Partition, weights: str) -> dict[str, str]:
    return {"partition": partition_hash(partition), **image_parts(source, synthetic), "encoder": weights}


def templates_of(config: ConfigDict, source: ImageSet) -> tuple[str, ...]:
    """The texts that class weights are made of."""
    return tuple(config.clip.templates) or source.templates


def turning_views(config: ConfigDict) -> "Views | None":
    """The views of the training images, one a round in turn."""
    from cachefl_jax.clip.views import Views

    return Views(config.clip.train_views, config.clip.views_seed) if config.clip.train_views else None


def key_views(config: ConfigDict) -> "Views | None":
    """The views of the server's images that a key is the mean of."""
    from cachefl_jax.clip.views import Views

    return Views(config.clip.key_views, config.clip.views_seed) if config.clip.key_views else None


def encode(
    config: ConfigDict, checkpoint: "Checkpoint", source: ImageSet, synthetic: LabelledImages
) -> tuple[FeatureBank, dict]:
    """(the bank, what is known of the whole model)."""
    from cachefl_jax.simulation.encoded import class_weights, image_features, key_features

    clip, name, turning = config.clip, config.data.name, turning_views(config)
    weights = class_weights(checkpoint, source.class_names, templates_of(config, source), f"{name}, class names")
    train = image_features(checkpoint, source.train, f"{name}, train", turning, "rotate")
    keys = key_features(checkpoint, synthetic, f"{name}, synthetic", key_views(config))
    plain = {
        role: Split(image_features(checkpoint, split, f"{name}, {role}"), split.labels)
        for role, split in (("validation", source.validation), ("test", source.test))
        if split is not None
    }
    bank = FeatureBank(
        train=Split(train if turning is None else train[0], source.train.labels),
        validation=plain.get("validation"),
        test=plain["test"],
        synthetic=Split(keys, synthetic.labels),
        text_features=weights.arrays["text_features"],
        class_names=source.class_names,
        logit_scale=weights.facts["logit_scale"],
        metadata={
            "encoder": clip.checkpoint,
            "weights_sha256": checkpoint.weights,
            "preparation": checkpoint.preparation._asdict(),
            "features": fingerprint_of(checkpoint.weights, source.train.fingerprint, synthetic.fingerprint),
        },
        train_views=None if turning is None else train,
    )
    model = "pocket CLIP" if clip.checkpoint == "pocket" else clip.checkpoint
    return bank, {"name": model, **weights.facts["whole_model"]}


def pictures(images, labels: np.ndarray, classes: int) -> np.ndarray:
    """The first images of every class, [N, k, H, W, 3]; k is at most PICTURES and what the poorest class has."""
    most = PICTURES if classes <= MOST_PICTURED else 1
    count = min(most, np.bincount(labels, minlength=classes).min())
    rows = [np.flatnonzero(labels == label)[:count] for label in range(classes)]
    found = of_one_size(images[row] for of_class in rows for row in of_class)
    return found.reshape(classes, count, *found.shape[1:])


def of_one_size(images: Iterable[Image.Image | np.ndarray]) -> np.ndarray:
    """Images to look at, [n, H, W, 3] uint8: as they are where all are small and of one size, else thumbnails."""
    pixels = (in_colour(image) for image in images)
    found = [each if max(each.shape[:2]) <= SIDE else thumbnail(each) for each in pixels]
    return np.stack(found if len({each.shape for each in found}) == 1 else [thumbnail(each) for each in found])


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The middle of an image [H, W, 3] uint8, SIDE pixels square."""
    return np.asarray(ImageOps.fit(Image.fromarray(image), (SIDE, SIDE)))


def partition_arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """partition.npz: offsets [C+1], indices [n], and the counts of `count_arrays`."""
    partition, bank = inputs.partition, inputs.bank
    counts = count_arrays(partition, bank.train.labels, bank.classes)
    return {"offsets": partition.offsets, "indices": partition.indices, **counts}


def card(config: ConfigDict, inputs: Inputs) -> dict:
    """partition.json: the card, and the digest of what the training features were made of (null for a bank)."""
    bank = inputs.bank
    told = partition_card(inputs.partition, bank.train.labels, bank.class_names, config.partition, config.seed)
    return told | {"features": bank.metadata.get("features")} | client_names(config, inputs)


def client_names(config: ConfigDict, inputs: Inputs) -> dict[str, list[str]]:
    """client_names: the sites' names, where clients are sites and the source names them; else nothing."""
    names = names_of(config, inputs.source)
    return {"client_names": names} if names else {}


def names_of(config: ConfigDict, source: ImageSet | None) -> list[str]:
    """The clients' names, where they are sites that the source names; else none."""
    if config.partition.name != "natural" or source is None or source.train.groups is None or not source.site_names:
        return []
    return [source.site_names[site] for site in np.unique(source.train.groups)]
