"""A drawing that was stopped at any moment goes on, and ends in the bytes of an undisturbed one."""

import errno
import itertools
import json
import os
import pathlib

import pytest
from synthesis.drawn_sets import LARGE, REQUEST, folders, line_of, whole_of

from cachefl_jax.errors import UsageError
from cachefl_jax.storage import files, home
from cachefl_jax.storage.leftovers import HOST
from cachefl_jax.synthesis import cost, obtain, store


@pytest.mark.parametrize("count", [1, 3])
def test_a_drawing_that_was_stopped_goes_on_and_ends_in_the_same_bytes(stop, calls, tmp_path, capfd, count):
    stop(-1)
    obtain(LARGE, tmp_path / "whole")
    assert [len(call) for call in calls] == [16, 16, 16, 12]
    calls.clear()
    stop(count)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path / "stopped")
    stop(-1)
    obtain(LARGE, tmp_path / "stopped")
    assert [len(call) for call in calls] == [16, 16, 16, 12]  # none twice
    assert whole_of(tmp_path / "stopped") == whole_of(tmp_path / "whole")
    assert f"going on at image {16 * count} of 60" in capfd.readouterr().err


def cut_picture(aside: pathlib.Path) -> None:
    path = aside / line_of(aside, 20)["name"]
    path.write_bytes(path.read_bytes()[:-40])


def cut_line(aside: pathlib.Path) -> None:
    text = (aside / "files.jsonl").read_bytes()
    (aside / "files.jsonl").write_bytes(text[: text.index(b"000040.png")])


def half_a_picture(aside: pathlib.Path) -> None:
    (aside / "images" / "0001" / f".000048.png.{HOST}.{2**22 + 1}.0123abcd.tmp").write_bytes(b"half")


def other_versions(aside: pathlib.Path) -> None:
    manifest = json.loads((aside / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (aside / "manifest.json").write_text(json.dumps(manifest))


def other_batches(aside: pathlib.Path) -> None:
    manifest = json.loads((aside / "manifest.json").read_text())
    (aside / "manifest.json").write_text(json.dumps(manifest | {"batch_size": 4}))


def empty_manifest(aside: pathlib.Path) -> None:
    (aside / "manifest.json").write_bytes(b"")


def no_cost(aside: pathlib.Path) -> None:
    (aside / "cost.json").write_bytes(b"[]")


@pytest.mark.parametrize(
    ("harm", "again"),
    [
        (cut_picture, 3),
        (cut_line, 2),
        (half_a_picture, 1),
        (other_versions, 4),
        (other_batches, 4),
        (empty_manifest, 4),
    ],
)
def test_of_what_was_left_only_what_is_sound_and_alike_is_kept(stop, calls, tmp_path, harm, again):
    stop(-1)
    obtain(LARGE, tmp_path / "whole")
    calls.clear()
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path / "stopped")
    (aside,) = folders(tmp_path / "stopped")
    harm(aside)
    calls.clear()
    stop(-1)
    obtain(LARGE, tmp_path / "stopped")
    assert len(calls) == again
    assert whole_of(tmp_path / "stopped") == whole_of(tmp_path / "whole")


def test_seconds_of_a_process_that_was_stopped_count(stop, calls, tmp_path, monkeypatch):
    clock = itertools.count()  # every look at the clock takes a second: a start, and one a batch
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(clock))
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path)
    stop(-1)
    manifest = obtain(LARGE, tmp_path).manifest
    assert (manifest["seconds"], manifest["timed"]) == (3 + 1, 60)


def test_where_nobody_knows_what_a_process_spent_its_images_are_not_counted(stop, calls, tmp_path):
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        obtain(LARGE, tmp_path)
    no_cost(folders(tmp_path)[0])
    stop(-1)
    assert obtain(LARGE, tmp_path).manifest["timed"] == 12


@pytest.mark.parametrize("moment", ["before the manifest", "after the manifest", "after the cost"])
def test_a_process_killed_when_all_is_drawn_leaves_nothing_to_draw(calls, tmp_path, monkeypatch, moment):
    obtain(REQUEST, tmp_path / "whole")
    with monkeypatch.context() as patch:
        target, name = {
            "before the manifest": (store, "finish"),
            "after the manifest": (pathlib.Path, "unlink"),
            "after the cost": (home.os, "replace"),
        }[moment]
        real = getattr(target, name)

        def killed(*arguments, **options):
            if name == "finish" or arguments[0].name in ("cost.json", folders(tmp_path / "killed")[0].name):
                raise KeyboardInterrupt
            return real(*arguments, **options)

        patch.setattr(target, name, killed)
        with pytest.raises(KeyboardInterrupt):
            obtain(REQUEST, tmp_path / "killed")
    calls.clear()
    obtain(REQUEST, tmp_path / "killed")
    assert calls == []
    assert whole_of(tmp_path / "killed") == whole_of(tmp_path / "whole")


@pytest.mark.parametrize("room", [0, 1, 20, 40, 61])
def test_a_full_disk_is_one_line_and_the_drawing_goes_on_once_there_is_room(calls, tmp_path, monkeypatch, room):
    """`room`: files that still fit."""
    obtain(LARGE, tmp_path / "whole")
    calls.clear()
    real, written = files.os.fsync, []

    def fsync(handle):
        written.append(handle)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(UsageError, match=r"^CACHEFL_HOME: got .*No space left on device.*; mend: make room"):
            obtain(LARGE, tmp_path / "full")
    obtain(LARGE, tmp_path / "full")
    assert len(calls) <= 4 + 1  # the batch in hand
    assert whole_of(tmp_path / "full") == whole_of(tmp_path / "whole")


def test_a_drawing_that_fails_at_once_leaves_nothing(stop, tmp_path):
    stop(0)
    with pytest.raises(KeyboardInterrupt):
        obtain(REQUEST, tmp_path)
    assert list((tmp_path / "synthetic").iterdir()) == []
