"""`synthesize` and its words, as a user starts them."""

import pytest
from command_line import assert_refused

FLAGS = (
    "--config=experiments/configs/digits.py",
    "--config.synthesis.images_per_class=2",
    "--config.synthesis.steps=1",
    "--config.cache.keys_per_class=2",
)


@pytest.fixture
def synthesize(start, tmp_path):
    """(words) -> what the command prints; its store is of its own."""
    return lambda *words: start(*words, *FLAGS, command="synthesize", CACHEFL_HOME=str(tmp_path))


def test_a_set_is_drawn_verified_drawn_again_and_a_changed_byte_told(synthesize, tmp_path):
    assert_refused(synthesize("verify"), "synthesis: got", "not drawn yet", "without verify")
    assert_refused(synthesize("--redraw=3"), "--redraw: got 3")
    assert synthesize().returncode == 0
    done = synthesize("verify", "--redraw=5")
    assert (done.returncode, done.stdout) == (0, "20 images, 0 faults; drawn again: 16, of which 16 equal\n"), (
        done.stderr
    )
    (folder,) = (path for path in (tmp_path / "synthetic").iterdir() if not path.name.startswith("."))
    file = folder / "images" / "0003" / "000007.png"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    done = synthesize("verify")
    assert done.returncode == 1
    assert (
        done.stdout == f"{folder}: {file.relative_to(folder)} has other bytes than were written\n20 images, 1 faults\n"
    )
    assert_refused(synthesize(), f"{file}: got other bytes than were written", f"delete {folder}")
