"""Objects by name: ours, of modules, of files; whatever is wrong is one line with the field."""

import sys

import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.named import find, short

TABLE = {"join": "posixpath:join", "dumps": "json:dumps", "gone": "nowhere_at_all:x"}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes a module into a folder of its own, which is the current one; returns its path as typed."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(text)
        return name

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(name: str, **options) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find("method", name, TABLE, **options)
    assert str(caught.value).startswith(f"method: got {name}")
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_name_of_ours_a_modules_and_a_files_are_found(file):
    import json
    import posixpath

    assert find("method", "join", TABLE) is posixpath.join
    assert find("method", "json:loads", TABLE) is json.loads
    assert find("method", f"{file('probe = 3')}:probe", TABLE) == 3


def test_a_file_is_loaded_once_however_its_path_is_written(file, tmp_path):
    file("import builtins\nbuiltins.loads = getattr(builtins, 'loads', 0) + 1\nprobe, other = [], {}\n")
    import builtins

    try:
        first = find("method", "mine.py:probe", {})
        assert find("method", "./mine.py:probe", {}) is first
        assert find("aggregation.name", f"{tmp_path}/mine.py:probe", {}) is first
        assert find("method", "mine.py:other", {}) == {}
        assert builtins.loads == 1
    finally:
        del builtins.loads


def test_files_may_hold_what_asks_for_its_own_module(file):
    file("import dataclasses\n@dataclasses.dataclass\nclass Probe:\n    scale: 'float' = 1.0\nprobe = Probe()\n")
    assert find("method", "mine.py:probe", {}).scale == 1.0


def test_an_unknown_name_lists_ours():
    assert refusal("joint").mend == "did you mean join?"
    assert refusal("mine.py").mend == "say which object of the file: mine.py:name"
    assert "join | dumps | gone | package.module:name | path/to/file.py:name" in str(refusal("magic"))


@pytest.mark.parametrize("name", ["", ":", ":x", "a:", "a b:c", "join:", "mine.py:", "mine.py:a.b", "a..b:c"])
def test_what_has_no_form_of_a_name_is_refused(name):
    with pytest.raises(UsageError, match=r"method: got .*; allowed: join \| dumps"):
        find("method", name, TABLE)


def test_no_module_no_file_no_attribute_are_told(file):
    assert "(no module nowhere_at_all)" in str(refusal("nowhere_at_all:x"))
    assert "(no module json.nowhere)" in str(refusal("json.nowhere:x"))
    assert "(no such file)" in str(refusal("nothing.py:x"))
    assert "(is a folder)" in str(refusal("./:x"))
    file("import json\n_hidden = 2\ndef probe(): pass\nsecond = (1,)\n")
    assert "has: probe; mend" in str(refusal("mine.py:prob"))
    assert "has: probe, second; mend" in str(refusal("mine.py:zzz"))
    assert "has: second; mend" in str(refusal("mine.py:zzz", kind="builtins:tuple"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0", "(ZeroDivisionError: division by zero, mine.py line 1)"),
        ("\nimport nowhere_at_all", "(ModuleNotFoundError: No module named 'nowhere_at_all', mine.py line 2)"),
        ("exit(3)", "(SystemExit: 3"),
        ("a = = 1", "(SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')", "(ValueError: two lines, mine.py line 1)"),
    ],
)
def test_a_file_that_raises_is_told_with_its_error_and_leaves_nothing(text, told, file, tmp_path, monkeypatch):
    name, before = f"{file(text)}:probe", set(sys.modules)
    assert told in str(refusal(name))
    assert set(sys.modules) == before
    monkeypatch.syspath_prepend(str(tmp_path))
    assert told in str(refusal("mine:probe"))
    assert "mine" not in sys.modules
    file("probe = 1  # corrected, of another length")
    assert find("method", name, {}) == 1


def test_an_object_of_a_wrong_kind_is_told(file):
    name = f"{file('probe = 3')}:probe"
    assert find("method", name, {}, "builtins:int") == 3
    assert "(of type int); allowed: a builtins.str" in str(refusal(name, kind="builtins:str"))


def test_a_short_name_is_what_stands_behind_the_colon():
    assert [short(name) for name in ("mean", "a.b:median", "/x/y.py:probe")] == ["mean", "median", "probe"]
