"""Bad images, checkpoints, server's images and partitions on the command line: one line on stderr, exit status 2, and
no file written, changed or lost."""

import gzip
import json
import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest
from command_line import assert_refused, run
from PIL import Image
from safetensors.numpy import load_file, save_file

from cachefl_jax.clip.checkpoint import POCKET

IMAGES = "experiments/configs/images.py"
BANK = "experiments/configs/feature_bank.py"
SMALL = (
    "--config.clip.checkpoint=pocket",
    "--config.clip.key_views=0",
    "--config.synthesis.source=held_out",
    "--config.synthesis.images_per_class=1",
    "--config.cache.keys_per_class=1",
    "--config.partition.clients=2",
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def write_images(root: pathlib.Path, folders: dict[str, int]) -> pathlib.Path:
    """That many 16x16 images in each of the folders, like {"train/cat": 3}."""
    rng = np.random.default_rng(0)
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
    """Eight cats and eight dogs."""
    return write_images(tmp_path / "photos", {"cat": 8, "dog": 8})


@pytest.fixture
def checkpoint(tmp_path) -> pathlib.Path:
    """The pocket CLIP, to be damaged."""
    return pathlib.Path(shutil.copytree(POCKET, tmp_path / "clip"))


def files_below(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture
def refused(start, tmp_path):
    """Runs a command with these flags, which must refuse them with these parts in its line, and touch nothing here."""

    def check(*flags: str, parts: tuple[str, ...], config: str = f"{IMAGES}:image_folder", **environment: str) -> None:
        before = files_below(tmp_path)
        done = start(f"--config={config}", f"--workdir={tmp_path}/run", *flags, **OFFLINE | environment)
        assert_refused(done, *parts)
        assert done.stdout == ""
        assert files_below(tmp_path) == before

    return check


@pytest.fixture
def refused_photos(refused):
    """`refused`, of a folder of images and the pocket CLIP."""
    return lambda root, *flags, **options: refused(f"--config.data.path={root}", *SMALL, *flags, **options)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["data.class_names=('a','b','c')"], ("data.class_names: got 3 names", "2, one for each class", "cat, dog")),
        (["data.class_names=('a','A')"], ("data.class_names: got a, A alike",)),
        (["data.class_names=('a',' ')"], ("data.class_names: got ' '", "that a prompt shows")),
        (["data.splits=('photos','','')"], ("data.splits: got photos", "cat, dog")),
        (["data.group_column=hospital"], ("data.group_column: got hospital", "folder")),
        (["data.layout=site"], ("data.layout: got site", "auto | class | class/site")),
        (["data.layout=split/class"], ("data.splits: got train", "cat, dog")),
        (["data.layout=site/class"], ("data.path: got", "photos (not site/class)")),
        (["data.max_pixels=1"], ("data.max_pixels: got 1", "2 or more")),
        (
            ["data.max_pixels=200"],
            ("images: got 10 of 10", "(more pixels than data.max_pixels, 200)", "raise data.max_pixels"),
        ),
        (["data.split_file=none.json"], ("data.split_file: got none.json (not there)",)),
        (["data.validation_share=0.6", "data.test_share=0.5"], ("data.test_share: got 0.5", "less than 0.4")),
        (["clip.checkpoint="], ("clip.checkpoint: got ''", "'pocket', a directory")),
        (["clip.checkpoint=nobody/no-clip"], ("clip.checkpoint: got nobody/no-clip", "download it once")),
        (["clip.dtype=float16"], ("clip.dtype: got float16", "float32 | float32_3x | bfloat16")),
        (["clip.templates=('a photo',)"], ("clip.templates: got a photo", "exactly one {}")),
        (["synthesis.source=pocket"], ("synthesis.source: got pocket", "draws digits alone")),
        (["synthesis.source=bank"], ("synthesis.source: got bank", "image_folder | held_out")),
        (["synthesis.source=image_folder"], ("synthesis.path: got ''", "--config.synthesis.path=DIR")),
        (["synthesis.source=image_folder", "synthesis.path=none"], ("synthesis.path: got", "none (not there)")),
        (["synthesis.images_per_class=8"], ("synthesis.images_per_class: got 8", "cat", "keeps an image")),
        (["cache.keys_per_class=2"], ("cache.keys_per_class: got 2", "1 to synthesis.images_per_class, 1")),
        (["partition.clients=0"], ("partition.clients: got 0", "1 or more", "natural")),
        (["partition.clients=100"], ("partition.clients: got 100", "the training rows there are")),
        (["partition.least=100"], ("partition.least: got 100", "at 2 clients")),
        (["partition.name=natural", "partition.clients=0"], ("partition.name: got natural", "data.group_column")),
        (["partition.name=given"], ("partition.path: got ''", "a partition.npz")),
        (["partition.name=given", "partition.path=none.npz"], ("partition.path: got", "none.npz", "existing .npz")),
    ],
)
def test_a_wrong_field_is_told(refused_photos, photos, flags, parts):
    refused_photos(photos, *(f"--config.{flag}" for flag in flags), parts=parts)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        ({"cat": 8}, ("data.path: got the classes cat", "2 or more")),
        ({"cat": 0, "dog": 0}, ("data.path: got no images in the train split",)),
        ({"train/cat": 8, "train/dog": 0, "test/cat": 2}, ("classes without training images (1): dog",)),
        ({"train/cat": 8, "train/dog": 8, "test/eel": 2}, ("classes that training lacks: eel", "the 2 class folders")),
        ({"cat": 2, "dog": 2}, ("data.path: got no images in the validation split",)),
        ({"cat": 3, "dog": 3}, ("synthesis.images_per_class: got 1", "fewer than 1, what cat has")),
        ({}, ("data.path: got", "photos (not there)")),
        ({"": 3}, ("data.path: got", "photos (no folders in it)", "a folder of each class")),
        (
            {"berlin/cat": 3, "berlin/dog": 3, "paris/cat": 3, "paris/dog": 3},
            (
                "data.layout: got auto",
                "photos may be class or class/site (classes berlin",
                "--config.data.layout=site/class",
            ),
        ),
        ({"train/cat": 3, "bus/cat": 3}, ("data.layout: got auto", "--config.data.layout=split/class")),
        ({"trainA/x": 3, "testA/x": 1, "trainB/x": 3, "testB/x": 1}, ("data.splits: got train", "trainA, trainB")),
    ],
)
def test_a_layout_that_is_none_is_told(refused_photos, tmp_path, folders, parts):
    refused_photos(write_images(tmp_path / "photos", folders), parts=parts)


def cut(path: pathlib.Path) -> None:
    """Leaves half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_broken_images_are_named_all_at_once(refused_photos, photos):
    (photos / "cat/text.jpg").write_text("no image")
    (photos / "cat/empty.jpg").write_bytes(b"")
    (photos / "cat/ends\x1b[2Jnot.jpg").write_text("a name that would clear the screen")
    for number in range(6):
        cut(photos / f"dog/{number}.png")
    shares = ("--config.data.test_share=0.3", "--config.data.validation_share=0")
    for _ in range(2):  # the second time from what the first one found
        found = ("images: got", " that cannot be decoded", "ends?[2Jnot.jpg (no image)", "more; test images: ")
        refused_photos(photos, *shares, parts=(*found, "data.broken=skip"))


def test_what_is_left_out_may_be_a_whole_class(refused_photos, photos):
    for number in range(8):
        cut(photos / f"dog/{number}.png")
    refused_photos(photos, "--config.data.broken=skip", parts=("classes without training images (1): dog",))


def test_an_archive_in_place_of_its_folder_is_told(refused_photos, photos):
    refused_photos(photos / "cat/0.png", parts=("data.path: got", "0.png (a file)", "unpack archives first"))


def test_a_class_name_that_is_no_text_is_told(refused_photos, photos):
    (photos / "dog").rename(photos / "d\udcffg")
    refused_photos(photos, parts=("data.class_names: got", "not in UTF-8"))


def test_links_that_lead_nowhere_are_passed_over(refused_photos, photos):
    (photos / "loop").symlink_to(photos / "loop")
    (photos / "gone").symlink_to(photos / "none")
    (photos / "cat/loop").symlink_to(photos)
    refused_photos(photos, "--config.partition.clients=99", parts=("partition.clients: got 99",))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"train": [["cat/0.png", "cat"], ["dog/99.png", "dog"]]}', ("1 of 2 listed files are not in", "dog/99.png")),
        ('{"train": [["cat/0.png", "cat"], ["dog', ("data.split_file: got", "JSONDecodeError")),
        pytest.param("[" * 100_000, ("data.split_file: got", "RecursionError"), id="brackets without end"),
        ('{"train": [["../outside.png", "cat"], ["dog/0.png", "dog"]]}', ("data.split_file: got", "leave data.path")),
        ('{"train": [["/etc/hostname", "cat"], ["dog/0.png", "dog"]]}', ("data.split_file: got", "absolute")),
        ('{"train": [["cat/0.png", 3]]}', ("data.split_file: got", 'the row ["cat/0.png", 3]')),
        ('{"train": [["cat", "cat"], ["dog", "dog"]]}', ("data.path: got", "no regular file")),
    ],
)
def test_a_split_file_that_does_not_fit_is_told(refused_photos, photos, tmp_path, content, parts):
    (tmp_path / "split.json").write_text(content)
    shares = ("--config.data.validation_share=0", "--config.data.test_share=0.1")
    refused_photos(photos, f"--config.data.split_file={tmp_path}/split.json", *shares, parts=parts)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        ({"cat": 3}, ("synthesis.path: got classes missing (1): dog",)),
        ({"cat": 3, "eel": 3}, ("synthesis.path: got classes missing (1): dog; unknown (1): eel",)),
        ({"cat": 3, "dog": 0}, ("synthesis.path: got", "(0 images of dog)", "1 or more of every class")),
    ],
)
def test_a_servers_folder_of_other_classes_is_told(refused_photos, photos, tmp_path, folders, parts):
    brought = write_images(tmp_path / "brought", folders)
    flags = ("--config.synthesis.source=image_folder", f"--config.synthesis.path={brought}")
    refused_photos(photos, *flags, parts=parts)


def test_a_broken_image_of_the_servers_is_told(refused_photos, photos, tmp_path):
    brought = write_images(tmp_path / "brought", {"cat": 1, "dog": 1})
    cut(brought / "cat/0.png")
    flags = ("--config.synthesis.source=image_folder", f"--config.synthesis.path={brought}")
    refused_photos(photos, *flags, parts=("synthetic images: got 1 of 2", "cat/0.png"))


@pytest.mark.parametrize(
    ("offsets", "indices", "parts"),
    [
        ([0, 2, 8], [0, 1, 1, 2, 3, 4, 5, 6], ("indices: got row 1 2 times",)),
        ([0, 2, 500], range(500), ("indices: got 8 at place 8", "0 to 7 (the training rows)")),
        ([0, 9, 8], range(8), ("offsets: got 8 after 9 at place 2",)),
    ],
)
def test_a_given_partition_of_other_rows_is_told(refused_photos, photos, tmp_path, offsets, indices, parts):
    np.savez(tmp_path / "given.npz", offsets=np.array(offsets), indices=np.array(indices))
    flags = ("--config.partition.name=given", f"--config.partition.path={tmp_path}/given.npz")
    refused_photos(photos, *flags, parts=parts)


@pytest.mark.parametrize("field", ["partition.change=noise", "clip.key_views=2", "clip.train_views=2"])
def test_a_bank_has_no_images_to_change(refused, field):
    name, value = field.split("=")
    refused("--config.data.path=x.npz", f"--config.{field}", parts=(f"{name}: got {value}",), config=BANK)


def edit(path: pathlib.Path, **fields) -> None:
    """Sets fields of a JSON file, "__" leading into a group."""
    content = json.loads(path.read_text())
    for name, value in fields.items():
        *groups, last = name.split("__")
        group = content
        for each in groups:
            group = group[each]
        group[last] = value
    path.write_text(json.dumps(content))


def shard_missing(directory: pathlib.Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    names = {"logit_scale": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def other_tensors(directory: pathlib.Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    del tensors["visual_projection.weight"]
    tensors["text_projection.weight"] = np.zeros((3, 3), np.float32)
    save_file(tensors | {"extra": np.zeros(2, np.float32)}, directory / "model.safetensors")


def no_scale(directory: pathlib.Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    save_file(tensors | {"logit_scale": np.array(np.nan, np.float32)}, directory / "model.safetensors")


def timm_tower(directory: pathlib.Path) -> None:
    (directory / "config.json").unlink()
    (directory / "model.safetensors").rename(directory / "open_clip_model.safetensors")
    towers = {"vision_cfg": {"timm_model_name": "vit_base", "image_size": 32}, "text_cfg": {}}
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 128, **towers}}))


def without_tokenizer(directory: pathlib.Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (directory / name).unlink()


CONFIG, PREPARATION, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda clip: edit(clip / CONFIG, model_type="bert"), ("model_type: got bert", "clip | siglip")),
        (lambda clip: edit(clip / CONFIG, model_type="siglip2"), ("model_type: got siglip2", "NaFlex")),
        (lambda clip: edit(clip / CONFIG, vision_config__hidden_act="relu"), ("vision_config.hidden_act: got relu",)),
        (lambda clip: edit(clip / CONFIG, vision_config__patch_size=16), ("patch_embedding.weight has shape",)),
        (lambda clip: cut(clip / CONFIG), ("config.json: got no valid JSON", "download it again")),
        (lambda clip: (clip / CONFIG).write_text("[" * 100_000), ("config.json: got no valid JSON",)),
        (lambda clip: (clip / CONFIG).unlink(), ("clip.checkpoint: got", "a directory with a config.json")),
        (lambda clip: cut(clip / WEIGHTS), ("clip.checkpoint: got", "model.safetensors", "a whole safetensors file")),
        (lambda clip: (clip / WEIGHTS).unlink(), ("clip.checkpoint: got", "(no weights)")),
        (
            lambda clip: (clip / WEIGHTS).rename(clip / "pytorch_model.bin"),
            ("clip.checkpoint: got", "(pytorch_model.bin only)", 'python -c "from transformers import CLIPModel'),
        ),
        (shard_missing, ("clip: got no model-00002-of-00002.safetensors", "download what is missing")),
        (
            other_tensors,
            (
                "missing visual_projection.weight",
                "text_projection.weight has shape (3, 3) where (128, 128) is due",
                "unexpected extra",
            ),
        ),
        (no_scale, ("clip.checkpoint: got", "a logit_scale of nan")),
        (timm_tower, ("open_clip_config.json: model_cfg.vision_cfg.timm_model_name: got vit_base", "a ViT")),
        (without_tokenizer, ("clip.checkpoint: got", "(no tokenizer)", "vocab.json and merges.txt")),
        (lambda clip: cut(clip / "tokenizer.json"), ("clip.checkpoint: got", "CLIPTokenizer")),
        (
            lambda clip: (clip / PREPARATION).unlink(),
            ("clip.checkpoint: got", "preprocessor_config.json (FileNotFound"),
        ),
        (lambda clip: edit(clip / PREPARATION, resample=9), ("preprocessor_config.json: resample: got 9",)),
        (lambda clip: edit(clip / PREPARATION, do_pad=True), ("preprocessor_config.json: do_pad: got True",)),
        (
            lambda clip: edit(clip / PREPARATION, crop_size=64),
            ("clip.checkpoint: got a preparation that gives 64 x 64 pixels", "32 x 32"),
        ),
        (lambda clip: edit(clip / PREPARATION, do_center_crop=False, size=20), ("20 x 20 pixels", "32 x 32")),
        (
            lambda clip: edit(clip / PREPARATION, image_processor_type="ViTImageProcessor"),
            ("image_processor_type: got ViTImageProcessor", "CLIPImageProcessor | SiglipImageProcessor"),
        ),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_told(refused_photos, photos, checkpoint, damage, parts):
    damage(checkpoint)
    refused_photos(photos, f"--config.clip.checkpoint={checkpoint}", parts=parts)


def write_idx(root: pathlib.Path, images: int = 30, labels: int = 30, highest: int = 2) -> pathlib.Path:
    """A training split of 6x5 images in IDX files."""
    root.mkdir()
    pixels = struct.pack(">4I", 0x803, images, 6, 5) + bytes(images * 6 * 5)
    (root / "train-images-idx3-ubyte").write_bytes(pixels)
    numbers = bytes(label % (highest + 1) for label in range(labels))
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 0x801, labels) + numbers))
    return root


@pytest.mark.parametrize(
    ("changes", "damage", "parts"),
    [
        ({"labels": 29}, lambda root: None, ("train-labels-idx1-ubyte.gz (shape (29,))", "[30]")),
        ({"highest": 3}, lambda root: None, ("data.class_names: got 3 names", "at least 4")),
        ({}, lambda root: cut(root / "train-images-idx3-ubyte"), ("train-images-idx3-ubyte (cut short", "900 values")),
        ({}, lambda root: cut(root / "train-labels-idx1-ubyte.gz"), ("train-labels-idx1-ubyte.gz (", "readable IDX")),
        ({}, lambda root: (root / "train-images-idx3-ubyte").unlink(), ("labels of train alone", "a file of images")),
        ({}, lambda root: shutil.rmtree(root), ("data.path: got", "(not there)")),
    ],
)
def test_idx_files_that_do_not_fit_are_told(refused_photos, tmp_path, changes, damage, parts):
    root = write_idx(tmp_path / "idx", **changes)
    damage(root)
    names = "--config.data.class_names=('ant','bee','cat')"
    refused_photos(root, names, parts=("data.", *parts), config=f"{IMAGES}:idx")


def test_idx_files_need_names(refused_photos, tmp_path):
    root = write_idx(tmp_path / "idx")
    refused_photos(root, parts=("data.class_names: got nothing", "a name for each label"), config=f"{IMAGES}:idx")


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> pathlib.Path:
    """A hub's data set, saved on this machine."""
    datasets = pytest.importorskip("datasets", reason="hub data sets need the package datasets")
    pixels = [np.full((6, 5, 3), 9 * row, np.uint8) for row in range(24)]
    kinds = datasets.ClassLabel(names=["cat", "dog"])
    columns = {"image": pixels, "label": [row % 2 for row in range(24)], "weight": [row % 2 / 2 for row in range(24)]}
    features = {"image": datasets.Image(), "label": kinds, "weight": datasets.Value("float32")}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    folder = tmp_path_factory.mktemp("tables")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": table, "test": table.select(range(8))}).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["data.image_column=picture"], ("data.image_column: got picture", "image, label, weight")),
        (["data.image_column=label"], ("data.image_column: got label", "a column of images")),
        (["data.label_column=kind"], ("data.label_column: got kind", "image, label, weight")),
        (["data.label_column=weight"], ("data.label_column: got weight (float", "whole numbers or texts")),
        (["data.group_column=site"], ("data.group_column: got site",)),
        (["data.splits=('training1','','')"], ("data.splits: got training1", "test, train")),
        (["data.class_names=('a','b','c')"], ("data.class_names: got 3 names",)),
        (["data.hub=tests/experiments"], ("data.hub: got", "tests/experiments", "in one of its formats")),
        (["data.hub=nobody/nothing"], ("data.hub: got nobody/nothing", "where there is a network")),
    ],
)
def test_a_hubs_data_set_that_does_not_fit_is_told(refused, tables, flags, parts):
    given = [f"--config.data.hub={tables}", *SMALL, *(f"--config.{flag}" for flag in flags)]
    refused(*given, parts=parts, config=f"{IMAGES}:hub")


def test_a_hubs_file_that_is_cut_short_is_told(refused, tables, tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "data").mkdir()
    datasets.load_from_disk(tables)["train"].to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    cut(tmp_path / "data/train-00000-of-00001.parquet")
    flags, parts = (f"--config.data.hub={tmp_path}", *SMALL), ("data.hub: got", "Parquet magic bytes not found")
    refused(*flags, parts=parts, config=f"{IMAGES}:hub", HF_DATASETS_CACHE=str(tables / "cache"))


def test_a_generator_that_cannot_be_had_is_told(refused_photos, photos):
    flags = ("--config.synthesis.source=diffusers", "--config.synthesis.pipeline=nobody/nothing")
    refused_photos(photos, *flags, parts=("synthesis.pipeline: got nobody/nothing", "download it once"))


def test_a_store_that_cannot_be_written_is_told(refused_photos, photos, tmp_path):
    (tmp_path / "store").write_text("a file")
    for place in ("store", "store/below"):
        refused_photos(
            photos, parts=("CACHEFL_HOME: got", "a folder that can be written"), CACHEFL_HOME=str(tmp_path / place)
        )


def test_a_damaged_store_is_told_by_every_command(start, photos, tmp_path):
    """A run that is done, whose features are then damaged."""
    store, work = {"CACHEFL_HOME": str(tmp_path / "store")}, f"--workdir={tmp_path}/run"
    words = [f"--config={IMAGES}:image_folder", f"--config.data.path={photos}", *SMALL]
    words += ["--config.rounds=0", "--config.methods=('cachefl',)"]
    (photos / "cat/readme.txt").write_text("no image")
    done = start(*words, work, **store)
    assert "note: Files passed over, being no images (1): cat/readme.txt." in done.stderr
    assert (done.returncode, {line.split(":")[0] for line in done.stderr.splitlines()}) == (0, {"note"})
    for path in (tmp_path / "store").rglob("features.npy"):
        cut(path)
    before = files_below(tmp_path / "run")
    refusals = [
        start(*words, f"--workdir={tmp_path}/other", **store),
        start(work, command="evaluate", **store),
        start(work, f"--config.data.path={tmp_path}/none", command="evaluate", **store),
    ]
    parts = (("features.npy: got", "delete"), ("features.npy: got", "delete"), ("data.path: got", "not there"))
    for refusal, told in zip(refusals, parts, strict=True):
        assert_refused(refusal, *told)
    assert not (tmp_path / "other").exists()
    assert files_below(tmp_path / "run") == before
    verified = start("verify", command="features", **store)
    assert verified.returncode == 1
    assert verified.stdout.count("features.npy has other bytes than were written") == 4
    assert_refused(start("prune", command="features", **store), "prune: got nothing that says what to delete")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["synthesis.source=held_out"], ("synthesis.source: got held_out", "pocket | diffusers")),
        (["data.path=none"], ("data.path: got", "none (not there)")),
        (["synthesis.prompts=('a photo',)"], ("synthesis.prompts: got a photo", "exactly one {}")),
    ],
)
def test_synthesis_for_images_that_are_not_there_is_told(start, photos, flags, parts):
    pipeline = ("--config.synthesis.source=diffusers", "--config.synthesis.pipeline=nobody/nothing")
    words = (f"--config={IMAGES}:image_folder", f"--config.data.path={photos}", *pipeline)
    done = start(*words, *(f"--config.{flag}" for flag in flags), command="synthesize", **OFFLINE)
    assert_refused(done, *parts)


def test_a_process_of_its_own_says_the_same(start, photos):
    """What the tests of commands rest on: `Prefork` shows what a user sees."""
    (photos / "cat/text.jpg").write_text("no image")
    words = (f"--config={IMAGES}:image_folder", f"--config.data.path={photos}", "--workdir=none", *SMALL)

    def seen(done: subprocess.CompletedProcess) -> tuple[int, str, str]:
        return done.returncode, done.stdout, done.stderr

    assert seen(run(*words)) == seen(start(*words))
    assert_refused(run(*words), "text.jpg (no image)")
