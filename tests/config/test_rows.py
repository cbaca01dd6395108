"""What a run compares."""

import json

import pytest

from cachefl_jax.config import Row, default, differences, from_json, overrides_of, resolve, rows_of
from cachefl_jax.configs.digits import get_config as digits
from cachefl_jax.errors import UsageError

PROBE = """
from cachefl_jax.methods.cachefl import cachefl
probe = other = cachefl
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """The path of a file with methods called probe and other; its folder is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)
    return f"{tmp_path}/probe.py"


def rows(**changes) -> list[Row]:
    config = default()
    config.update(changes)
    return rows_of(resolve(config))


def test_the_older_field_means_the_method_under_each_regime():
    assert rows() == [
        Row("zero_shot", "zero_shot", "zero_shot"),
        Row("cache_init", "cachefl", "round_0"),
        Row("cachefl", "cachefl", "federated"),
        Row("local_only", "cachefl", "alone"),
        Row("centralized", "cachefl", "centralized"),
    ]
    assert rows(methods=("cachefl",)) == [Row("cachefl", "cachefl", "federated")]
    assert rows(methods=()) == []


def test_by_default_the_rows_are_the_methods_own(probe):
    probe = f"{probe}:probe"
    assert rows(method="probe.py:probe") == [
        Row("zero_shot", "zero_shot", "zero_shot"),
        Row("cache_init", probe, "round_0"),
        Row("probe", probe, "federated"),
        Row("local_only", probe, "alone"),
        Row("centralized", probe, "centralized"),
    ]


def test_compare_names_methods_and_regimes(probe):
    words = ("probe.py:probe", "probe.py:other@alone", "cachefl@round_0", "cachefl", "local_only", "cachefl")
    assert rows(compare=words) == [
        Row("probe", f"{probe}:probe", "federated"),
        Row("other@alone", f"{probe}:other", "alone"),
        Row("cachefl@round_0", "cachefl", "round_0"),
        Row("cachefl", "cachefl", "federated"),
        Row("local_only", "cachefl", "alone"),
    ]


def test_the_runs_own_method_is_a_row_whatever_a_shipped_config_compares(probe):
    own, full = "probe.py:probe", f"{probe}:probe"
    assert rows(method=own, compare=("zero_shot", "local_only", "cachefl"))[1:] == [
        Row("local_only", full, "alone"), Row("cachefl", "cachefl", "federated"), Row("probe", full, "federated"),
    ]  # fmt: skip
    assert rows(method="ridge", compare=("cachefl",))[1] == Row("ridge", "ridge", "federated")
    assert [row.name for row in rows(method=own, compare=("probe@alone",))] == ["probe@alone"], "it is named"
    assert [row.name for row in rows(compare=("ridge",))] == ["ridge"], "nobody asked for the default"


def test_the_demos_own_values_are_cachefls_and_not_another_methods(probe):
    for method, ours in (("cachefl", 0.0003), ("probe.py:probe", None)):
        config = resolve(digits())
        config.method = method
        row = next(row for row in rows_of(resolve(config)) if row.name == "local_only")
        assert overrides_of(resolve(config), row).get("local.learning_rate") == ours


def test_the_runs_own_method_may_be_called_as_its_rows_are(probe):
    words = ("probe@alone", "probe", "cachefl")
    assert [row[1:] for row in rows(method="probe.py:probe", compare=words)] == [
        (f"{probe}:probe", "alone"), (f"{probe}:probe", "federated"), ("cachefl", "federated"),
    ]  # fmt: skip


def test_no_two_rows_share_a_name(probe, tmp_path):
    (tmp_path / "second.py").write_text(PROBE + "cachefl = zero_shot = probe\n")
    second = f"{tmp_path}/second.py"
    assert [row.name for row in rows(compare=("probe.py:probe", "second.py:probe@alone", "second.py:probe"))] == [
        f"{probe}:probe", "probe@alone", f"{second}:probe",
    ]  # fmt: skip
    assert [row.name for row in rows(compare=("second.py:cachefl", "second.py:zero_shot", "second.py:other"))] == [
        f"{second}:cachefl", f"{second}:zero_shot", "other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("magic", r"compare: got magic; allowed: cachefl \| zero_shot \|.* \| package.module:name"),
        ("cachefI", r"compare: got cachefI;.*did you mean cachefl"),
        ("magic@alone", r"compare: got magic; allowed: cachefl"),
        ("cachefl@lone", r"compare: got cachefl@lone; allowed: NAME, NAME@alone"),
        ("cachefl@", r"compare: got cachefl@; allowed: NAME"),
        ("zero_shot@alone", r"compare: got zero_shot@alone; allowed: NAME"),
        ("local_only@alone", r"compare: got local_only@alone; allowed: NAME"),
        ("", r"compare: got ''; allowed: cachefl"),
    ],
)
def test_a_word_that_is_no_row_is_refused(word, told):
    with pytest.raises(UsageError, match=told):
        rows(compare=("cachefl", word))


def test_configs_that_compare_the_same_do_not_differ(probe):
    def stored(**changes) -> dict:
        config = default()
        config.update(changes)
        return json.loads(json.dumps(resolve(config).to_dict()))

    old = stored(methods=("zero_shot", "cachefl"))
    del old["compare"], old["aggregation"], old["local"]["algorithm"]
    back = json.loads(json.dumps(from_json(old).to_dict()))
    assert differences(back, stored(methods=("zero_shot", "cachefl"))) == []
    assert differences(back, stored(compare=("zero_shot", "cachefl"))) == []
    both = stored(compare=("cachefl",), methods=("zero_shot", "cachefl"))
    assert differences(back, both) == [], "what is asked for by the older name counts beside a shipped config's compare"
    assert differences(back, stored(compare=("cachefl",))) == ["compare", "methods"]
    assert differences(back, stored(methods=("cachefl",))) == ["methods"]
    assert differences(stored(), stored(method="probe.py:probe")) == ["method"]
    ours, theirs = (stored(method="probe.py:probe", compare=(word,)) for word in ("probe", "probe.py:probe"))
    assert differences(ours, theirs) == []
