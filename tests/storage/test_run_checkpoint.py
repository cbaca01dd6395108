"""What a checkpoint gives back, and what damage does to it: it is always told, never read as if it were whole."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.storage.checkpoint import (
    DamagedCheckpoint,
    digests_file,
    fault,
    open_checkpoints,
    restore,
    rounds_saved,
    set_aside,
)

STATE = {"keys": jnp.arange(4096.0).reshape(16, 256), "round": jnp.int32(3)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of rounds 3 and 6."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with open_checkpoints(folder) as checkpoints:
        for number in (3, 6):
            checkpoints.save(number, {**STATE, "round": jnp.int32(number)})
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return pathlib.Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def test_a_checkpoint_comes_back_and_reading_writes_nothing(copied):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    (copied / "9.orbax-checkpoint-tmp").mkdir()  # a run at work is writing it
    back = restore(copied, STATE, 6)
    assert int(back["round"]) == 6
    assert np.array_equal(back["keys"], STATE["keys"])
    (copied / "9.orbax-checkpoint-tmp").rmdir()
    assert before == {path: path.stat().st_mtime_ns for path in copied.rglob("*")}


def test_every_flipped_byte_is_noticed(copied):
    files = [path for path in (copied / "6").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        sound = path.read_bytes()
        for place in (0, len(sound) // 2, len(sound) - 1):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
            with pytest.raises(DamagedCheckpoint, match=rf"checkpoint: got .*6 \(its file {path.name}|other bytes"):
                restore(copied, STATE, 6)
        path.write_bytes(sound)
    assert not fault(copied, 6)


def cut(checkpoint: pathlib.Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_metadata(checkpoint: pathlib.Path) -> None:
    (checkpoint / "state" / "_METADATA").unlink()


def no_data(checkpoint: pathlib.Path) -> None:
    shutil.rmtree(checkpoint / "state")


def empty(checkpoint: pathlib.Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


@pytest.mark.parametrize("digests", [True, False])  # older versions wrote none
@pytest.mark.parametrize("harm", [cut, no_metadata, no_data, empty])
def test_damage_is_told_in_one_line_and_set_aside(copied, harm, digests, capfd):
    if not digests:
        digests_file(copied, 6).unlink()
    harm(copied / "6")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint: got .*/6 \(.*name another.*3"):
        restore(copied, STATE, 6)
    assert capfd.readouterr() == ("", "")
    assert set_aside(copied, 6).name == "6.damaged"
    assert rounds_saved(copied) == [3]
    assert int(restore(copied, STATE, 3)["round"]) == 3
    with open_checkpoints(copied) as checkpoints:
        checkpoints.save(6, {**STATE, "round": jnp.int32(7)})
    assert int(restore(copied, STATE, 6)["round"]) == 7


def test_a_round_is_written_anew_though_later_ones_are_there(copied):
    with open_checkpoints(copied) as checkpoints:
        checkpoints.save(3, jax.tree.map(lambda leaf: leaf + 1, STATE))
    assert rounds_saved(copied) == [3, 6]
    assert int(restore(copied, STATE, 3)["round"]) == 4


def test_a_file_of_somebody_else_does_no_harm(copied):
    (copied / "6" / ".DS_Store").touch()
    (copied / "notes.txt").touch()
    assert not fault(copied, 6)
    assert int(restore(copied, STATE, 6)["round"]) == 6
