"""IDX files: read as MNIST's are, and refused where they are not whole."""

import gzip
import pathlib
import struct
import tracemalloc

import numpy as np
import pytest

from cachefl_jax import machine
from cachefl_jax.data import idx
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError

NAMES = ("zero", "one", "two")


def encoded(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def arrays(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, 4, 3), dtype=np.uint8), np.arange(rows, dtype=np.uint8) % 3


@pytest.fixture
def digits_folder(tmp_path):
    """30 training and 9 test images, MNIST's file names."""
    for split, rows in (("train", 30), ("t10k", 9)):
        images, labels = arrays(rows, rows)
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(encoded(images))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(encoded(labels))
    return tmp_path


@pytest.fixture
def load(config_of):
    return lambda root, **fields: idx.load(config_of("idx", path=root, **{"class_names": NAMES} | fields).data)


def test_mnists_files_are_read_and_mapped(digits_folder, load):
    source = load(digits_folder)
    images, labels = arrays(30, 30)
    assert isinstance(source.train.images, np.memmap)
    assert np.array_equal(source.train.images, images)
    assert source.train.labels.tolist() == labels.tolist()
    assert source.train.labels.dtype == np.int32
    assert np.array_equal(source.test.images, arrays(9, 9)[0])
    assert source.validation is None
    assert source.class_names == NAMES


def test_gzipped_files_are_the_same_images(digits_folder, load):
    plain = load(digits_folder)
    for path in list(digits_folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    zipped = load(digits_folder)
    assert np.array_equal(zipped.train.images, plain.train.images)
    assert [split.fingerprint for split in (zipped.train, zipped.test)] == [
        plain.train.fingerprint,
        plain.test.fingerprint,
    ]


def test_a_validation_split_is_held_out_and_the_config_names_others(digits_folder, config_of):
    source = load_images(config_of("idx", path=digits_folder, class_names=NAMES, shots=4))
    assert [np.bincount(split.labels).tolist() for split in source[:3]] == [[4, 4, 4], [1, 1, 1], [3, 3, 3]]
    other = config_of("idx", path=digits_folder, class_names=NAMES, splits=("t10k", "", "train"))
    assert len(load_images(other).test.labels) == 30


def test_colour_and_dotted_names(tmp_path, load):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
    (tmp_path / "train-images.idx4-ubyte").write_bytes(encoded(images))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(encoded(np.arange(6, dtype=np.uint8) % 3))
    assert np.array_equal(load(tmp_path).train.images, images)


IMAGES, LABELS = (encoded(array) for array in arrays(30, 30))


@pytest.mark.parametrize(
    ("kind", "content", "match"),
    [
        ("images", b"", r"begins with nothing"),
        ("images", b"\x89PNG" + IMAGES, r"begins with 89504e47\); allowed: an IDX file of uint8"),
        ("images", b"\0\0\x0d" + IMAGES[3:], r"begins with 00000d03"),
        ("images", IMAGES[:9], r"cut short in its header"),
        ("images", IMAGES[:-1], r"cut short: 359 values\); allowed: 360 values, as its header says \(30, 4, 3\)"),
        ("images", IMAGES + b"x", r"longer: 361 values"),
        ("images", b"\0\0\x08\x00" + b"x", r"0 axes\); allowed: 1 to 4"),
        ("images", b"\0\0\x08\x46" + bytes(280), r"70 axes\); allowed: 1 to 4"),
        (
            "images",
            IMAGES[:4] + b"\xff" * 12 + IMAGES[16:],
            r"cut short: 360 values|more of them, for the 79,",
        ),
        ("images", IMAGES[:4] + bytes(4) + b"\xff" * 8, r"no values, of shape \(0, 4294967295, 4294967295\)"),
        ("images", LABELS, r"shape \(30,\)\); allowed: \[n, H, W\]"),
        ("labels", encoded(np.zeros(29, np.uint8)), r"shape \(29,\)\); allowed: \[30\], a label for each image"),
        ("labels", encoded(np.full(30, 3, np.uint8)), r"data.class_names: got 3 names; allowed: at least 4"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_fault_of_a_file_is_named(digits_folder, load, kind, content, match, zipped):
    path = next(digits_folder.glob(f"train-{kind}-*"))
    path.unlink()
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=match) as caught:
        load(digits_folder)
    assert "\n" not in str(caught.value)


def test_a_broken_archive_is_named_and_a_bomb_is_not_unpacked(digits_folder, load):
    path = digits_folder / "train-images-idx3-ubyte"
    path.unlink()
    archive = path.with_name(f"{path.name}.gz")
    archive.write_bytes(gzip.compress(IMAGES)[:-30])
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte.gz \(EOFError"):
        load(digits_folder)
    archive.write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte.gz \(BadGzipFile"):
        load(digits_folder)
    archive.write_bytes(gzip.compress(IMAGES + bytes(10_000_000)))
    with pytest.raises(UsageError, match=r"longer: 361 values"):
        load(digits_folder)


def test_what_an_archive_promises_is_held_against_its_bytes_and_the_memory(digits_folder, load, monkeypatch):
    path = digits_folder / "train-images-idx3-ubyte"
    path.unlink()
    archive = path.with_name(f"{path.name}.gz")
    archive.write_bytes(gzip.compress(IMAGES[:4] + struct.pack(">3I", 10_000, 1000, 100) + IMAGES[16:]))
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"\(\d+ bytes\); allowed: more of them, for the 1,000,000,000 values"):
        load(digits_folder)
    noise = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8)  # bytes that could hold 300 MB
    archive.write_bytes(gzip.compress(IMAGES[:4] + struct.pack(">3I", 1000, 1000, 200) + noise.tobytes()))
    with pytest.raises(UsageError, match=r"cut short: 300000 values\); allowed: 200000000 values"):
        load(digits_folder)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
    archive.write_bytes(gzip.compress(IMAGES))
    monkeypatch.setattr(machine, "free_memory", lambda: 359)
    with pytest.raises(UsageError, match=r"\(takes 360 bytes\); allowed: what fits into the 359 bytes"):
        load(digits_folder)


def test_missing_files_and_names_are_told(digits_folder, load, tmp_path_factory):
    with pytest.raises(UsageError, match=r"data.class_names: got nothing; allowed: a name for each label"):
        load(digits_folder, class_names=())
    (digits_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match=r"data.path: got .*\(images of t10k alone\); allowed: a file of labels"):
        load(digits_folder)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "a.txt").write_text("")
    with pytest.raises(UsageError, match=r"data.path: got .*\(holds a.txt\); allowed: files such as train-images"):
        load(empty)


FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_read(load):
    source = load(FASHION, class_names=tuple(f"class {number}" for number in range(10)))
    assert source.train.images.shape == (60000, 28, 28)
    assert np.bincount(source.train.labels).tolist() == [6000] * 10
    assert np.bincount(source.test.labels).tolist() == [1000] * 10
