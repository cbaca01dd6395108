"""`cachefl` without a command, with --help and with a word that is none."""

import sys

import pytest

from cachefl_jax.commands import CHECKOUT, INSTALLED, NAMES, as_called, called, main


@pytest.fixture
def cachefl(monkeypatch, capsys):
    """(words) -> what `cachefl WORDS` prints to stdout and to stderr."""

    def call(*words: str):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/cachefl", *words])
        main()
        return capsys.readouterr()

    return call


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_tells_what_each_command_does(cachefl, words):
    told = cachefl(*words)
    assert told.err == ""
    lines = told.out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all(line.endswith(".") and len(line) <= 140 for line in lines)


@pytest.mark.parametrize(("word", "mend"), [("nonsense", "cachefl --help"), ("sweeep", "did you mean sweep?")])
def test_another_word_is_refused_in_one_line(cachefl, capsys, word, mend):
    with pytest.raises(SystemExit) as ended:
        cachefl(word)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"command: got {word}; allowed: run | sweep")
    assert mend in told.err
    assert told.err.count("\n") == 1


def test_commands_are_quoted_in_the_way_in_which_this_one_was_called(monkeypatch):
    text = f"{CHECKOUT}run --config=experiments/configs/digits.py:smoke"
    monkeypatch.setattr(sys, "argv", ["/checkout/experiments/run.py"])
    assert (called("run"), as_called(text)) == ("python -m experiments.run", text)
    monkeypatch.setattr(sys, "argv", [f"{INSTALLED}run"])
    assert (called("run"), as_called(text)) == ("cachefl run", "cachefl run --config=digits:smoke")
