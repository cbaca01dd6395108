"""Archives are read array by array, and nothing that a broken or hostile one claims is believed."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from cachefl_jax import machine
from cachefl_jax.errors import UsageError
from cachefl_jax.storage import archive
from cachefl_jax.storage.archive import Archive, read_arrays

MATRIX = np.arange(60, dtype=np.float32).reshape(12, 5)


def member(array: np.ndarray, header: str = "", version: int = 1) -> bytes:
    """An array as .npy, or with a header of one's own."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, (1, 0))
    if not header:
        return file.getvalue()
    text = header.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return np.lib.format.magic(version, 0) + length + text + array.tobytes()


def write(path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def claim(shape: object, kind: str = "<f4") -> str:
    return f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    "array",
    [
        MATRIX, MATRIX.T, np.asfortranarray(MATRIX), MATRIX.astype(">f8"), MATRIX[:0], np.array("text"),
        np.array(["ä", "bc"]), np.array([b"a", b"bc"]), np.arange(3), np.array(True),
    ],
)  # fmt: skip
def test_what_numpy_saves_is_read_back(tmp_path, array):
    np.savez(tmp_path / "plain.npz", a=array)
    np.savez_compressed(tmp_path / "packed.npz", a=array)
    for name in ("plain", "packed"):
        (back,) = read_arrays("field", tmp_path / f"{name}.npz", ["a"]).values()
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("array", [MATRIX, np.asfortranarray(MATRIX), MATRIX.astype(">f2")])
def test_rows_come_in_blocks(tmp_path, array, monkeypatch):
    monkeypatch.setattr(archive, "BLOCK_BYTES", 5 * array.itemsize * 5 + 1)
    np.savez(tmp_path / "a.npz", a=array)
    with Archive("field", tmp_path / "a.npz") as file:
        blocks = list(file.rows("a"))
    assert [len(block) for block in blocks] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def test_only_what_is_asked_for_is_read(tmp_path):
    """Other arrays may be anything: pickled, damaged, or many times the file's size."""
    bomb = member(np.zeros(2**22))  # 32 MiB of zeros in 32 KiB
    path = write(tmp_path / "a.npz", {"a": member(MATRIX), "bomb": bomb, "pickled": member(np.arange(2), "\x80")})
    tracemalloc.start()
    arrays = read_arrays("field", path, ["a", "none"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(arrays) == ["a"]
    assert peak < 2**22


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (member(MATRIX, claim((12, 6))), r"a: a claim to be \(12, 6\) of float32, 288 bytes, where there are 240"),
        (member(MATRIX, claim((12, 4))), r"where there are 240"),
        (member(MATRIX, claim((2**18, 2**17))), r"137,438,953,472 bytes, where there are 240"),
        (member(MATRIX, claim((2**62, 2**62))), r"where there are 240"),
        (member(MATRIX, claim((-12, -5))), r"a: a shape of"),
        (member(MATRIX, claim((10**12,), "<U0")), r"a claim to be"),
        (member(MATRIX, claim("(" * 5000)), r"a: "),
        (member(MATRIX, claim("-" * 9000 + "1")), r"a: "),
        (member(MATRIX, claim((60,), "no type")), r"a: "),
        (member(MATRIX, claim((12, 5)) + " " * 20_000), r"a: a header of 20,0.. bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000), r"a: a header of 4,294,967,295 bytes"),
        (member(MATRIX)[:-4], r"where there are 236"),
        (member(MATRIX)[:20], r"a: "),
        (b"", r"a: "),
        (b"\x93NUMPY\x07\x00" + bytes(99), r"a: "),
    ],
)  # fmt: skip
def test_a_claim_that_the_file_does_not_bear_out_is_refused_in_one_line(tmp_path, content, match):
    path = write(tmp_path / "a.npz", {"a": content})
    with pytest.raises(UsageError, match=rf"field: got .*a.npz \(cannot be read as .npz: .*{match}") as caught:
        read_arrays("field", path, ["a"])
    assert len(str(caught.value)) < 1000


def patched(path, **sizes: int):
    """The archive's only entry with other sizes in its directory; its own header and bytes stay."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    places = {"flags": (entry + 8, "<H"), "packed": (entry + 20, "<I"), "size": (entry + 24, "<I")}
    for name, value in sizes.items():
        place, kind = places[name]
        struct.pack_into(kind, content, place, value)
    path.write_bytes(content)
    return path


def test_a_directory_that_claims_too_much_is_refused(tmp_path):
    claimed = 2**31
    content = member(np.zeros(1, np.uint8), claim((claimed - 128,), "|u1").ljust(118))
    assert len(content) == 129
    path = patched(write(tmp_path / "a.npz", {"a": content}), size=claimed)
    with pytest.raises(UsageError, match=r"bytes that cannot unpack to 2,147,483,648"):
        read_arrays("field", path, ["a"])
    stored = patched(write(tmp_path / "b.npz", {"a": content}, zipfile.ZIP_STORED), size=claimed, packed=claimed)
    with pytest.raises(UsageError, match=r"bytes that cannot unpack to 2,147,483,648"):
        read_arrays("field", stored, ["a"])
    locked = patched(write(tmp_path / "c.npz", {"a": content}), flags=1)
    with pytest.raises(UsageError, match=r"a: .*encrypted"):
        read_arrays("field", locked, ["a"])
    other = write(tmp_path / "d.npz", {"a": member(MATRIX)}, zipfile.ZIP_BZIP2)
    with pytest.raises(UsageError, match=r"a: compression of type 12"):
        read_arrays("field", other, ["a"])


def test_what_does_not_fit_into_free_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npz", {"a": member(MATRIX), "b": member(MATRIX)})
    monkeypatch.setattr(machine, "free_memory", lambda: 400)
    with pytest.raises(UsageError, match=r"takes 480 bytes\); allowed: what fits into the 400 bytes of memory"):
        read_arrays("field", path, ["a", "b"])
    assert len(read_arrays("field", path, ["b"])) == 1
    monkeypatch.setattr(machine, "free_memory", lambda: None)  # no Linux
    assert len(read_arrays("field", path, ["a", "b"])) == 2


def test_pickled_objects_are_refused_by_the_arrays_name(tmp_path):
    np.savez(tmp_path / "a.npz", good=MATRIX, names=np.array(["a", {}], object))
    with pytest.raises(UsageError, match=r"\(names holds pickled objects\).*numpy.array\(names, dtype=str\)"):
        read_arrays("field", tmp_path / "a.npz", ["good", "names"])


def test_no_change_of_a_byte_raises_anything_else(tmp_path):
    """Whatever is broken in an archive is told in one line."""
    arrays = {"a": MATRIX, "b": np.array(["x", "yy"]), "c": np.array(json.dumps({"d": 1}))}
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    np.savez(tmp_path / "plain.npz", **arrays)
    rng, path, refused = np.random.default_rng(0), tmp_path / "broken.npz", 0
    for name in ("packed", "plain"):
        whole = np.frombuffer((tmp_path / f"{name}.npz").read_bytes(), np.uint8)
        for _ in range(200):
            broken = whole.copy()
            broken[rng.integers(len(whole), size=rng.integers(1, 4))] = rng.integers(256)
            path.write_bytes(broken[: rng.integers(1, len(whole)) if rng.random() < 0.1 else None].tobytes())
            try:
                read_arrays("field", path, arrays)
            except UsageError:
                refused += 1
    assert refused > 150
