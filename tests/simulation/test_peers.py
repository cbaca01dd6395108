"""What a process of several does with errors of its own and of others."""

import errno
import os

import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import peers


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that this process, one of several, has waited for word of another's end."""
    seconds: list[float] = []
    monkeypatch.setattr(peers.state, "on", True)
    monkeypatch.setattr(peers.time, "sleep", seconds.append)
    return seconds


def test_an_error_that_another_process_may_be_the_cause_of_waits_for_word(waits):
    with pytest.raises(ValueError, match="Connection closed by peer"), peers.together():
        raise ValueError("Gloo all-reduce failed: Connection closed by peer")
    assert waits == [peers.PATIENCE]


def test_a_full_disk_is_told_at_once(waits):
    with pytest.raises(OSError, match="No space"), peers.together():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
    assert waits == []


def test_a_refusal_is_told_and_leaves_with_status_2(waits, monkeypatch, capsys):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(peers, "leave", leave)
    with pytest.raises(SystemExit, match="2"), peers.together():
        raise UsageError("field", 1, "2", "change it")
    assert capsys.readouterr().err == "field: got 1; allowed: 2; mend: change it\n"
    assert waits == []


def test_a_single_process_handles_its_errors_itself():
    with pytest.raises(UsageError), peers.together():
        raise UsageError("field", 1, "2", "change it")
