"""Fields that a user's components bring, on a command line and in a sweep."""

import pytest
from absl import flags
from ml_collections import config_flags

from cachefl_jax.commands import flag_errors
from cachefl_jax.commands.named_flags import ConfigFileParser, config_on, named_on
from cachefl_jax.commands.sweep import configs
from cachefl_jax.config import default, resolve
from cachefl_jax.config.components import own_fields
from cachefl_jax.config.listing import listing
from cachefl_jax.errors import UsageError

MINE = """
from cachefl_jax.config import Field, default
from cachefl_jax.config.ranges import finite
from cachefl_jax.federation.aggregation import Aggregation
from cachefl_jax.federation.transforms import stateless
scale = Field("flip.scale", 2.0, "how far", *finite(0), "raise it", traced=True)
flip = stateless(lambda update, sender: update, fields=(scale,))
turn = Aggregation(fields=(Field("turn.by", 3, "how far", lambda by: by < 4, "less than 4", "lower it"),))

def get_config():
    config = default()
    config.aggregation.name, config.turn = "mine.py:turn", {"by": 1}
    return config
"""


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A file with two components, which is a config file that names one of them; and one that names none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "plain.py").write_text("from cachefl_jax.config import default as get_config\n")


def parsed(*words: str):
    """The config of a command line."""
    argv, values = ["command", *words], flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv, lock_config=True)
    values["config"].parser = ConfigFileParser(argv)
    try:
        values(argv)
    except (Exception, SystemExit) as error:
        raise flag_errors.explain(argv, error) from error
    return values.config


@pytest.mark.parametrize(
    "name",
    [
        ["--config.updates.transforms=mine.py:flip"],
        ["--config.updates.transforms", "('mine.py:flip','clip')"],
        ["-config.updates.transforms=clip", "--config.updates.transforms=mine.py:flip"],
    ],
)
def test_a_component_on_the_line_brings_its_fields(name):  # fmt: skip
    config = parsed("--config=plain.py", *name, "--config.flip.scale=5")
    assert (config.flip.scale, resolve(config).flip.scale) == (5.0, 5.0)
    assert config.is_locked
    assert parsed("--config=plain.py", "--config.flip.scale=4", *name).flip.scale == 4.0
    assert parsed("--config=plain.py", *name).flip.scale == 2.0


def test_a_file_of_flags_may_name_it(tmp_path):
    (tmp_path / "words").write_text("--config.updates.transforms=mine.py:flip\n")
    assert parsed("--config=plain.py", "--flagfile=words", "--config.flip.scale=5").flip.scale == 5.0


def test_a_component_of_the_config_file_brings_its_fields_until_another_is_named():
    assert parsed("--config=mine.py").turn.by == 1
    assert parsed("--config=mine.py", "--config.turn.by=2").turn.by == 2
    other = parsed("--config=mine.py", "--config.aggregation.name=mean")
    assert "turn" not in resolve(other)
    with pytest.raises(UsageError, match=r"config.turn.by: got no such field"):
        parsed("--config=mine.py", "--config.aggregation.name=mean", "--config.turn.by=2")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config.flip.scale=5"], "config.flip.scale: got no such field"),
        (["--config.updates.transforms=mine.py:flip", "--config.flip.scales=5"], "config.flip.scales: got no such fie"),
        (
            ["--config.updates.transforms=mine.py:flop"],
            "updates.transforms: got mine.py:flop; allowed: a Transform that",
        ),
        (["--config.method=none.py:x", "--config.x.y=1"], "method: got none.py:x (no such file)"),
        (["--config.updates.transforms=mine.py:flip", "--config.flip.scale=x"], "config.flip.scale: got x; allowed: a"),
        (
            ["--config.compare=(cachefl,mine.py:turn)"],
            "config.compare: got (cachefl,mine.py:turn); allowed: texts in quotes, such as --config.compare=",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_field(words, told):
    with pytest.raises(UsageError) as caught:
        parsed("--config=plain.py", *words)
    assert str(caught.value).startswith(told)


def test_its_ranges_hold_on_the_line():
    config = parsed("--config=plain.py", "--config.updates.transforms=mine.py:flip", "--config.flip.scale=-1")
    with pytest.raises(UsageError, match=r"flip.scale: got -1.0; allowed: .*0 or more; mend: raise it"):
        resolve(config)


def test_names_are_read_as_the_flags_read_them():
    words = ["command", "--config=x.py", "--config.method", "a.b:c", "--config.rounds=3", "--config.compare=('a','b')",
             "--config.compare=c", "--config.local.algorithm=scaffold", "--config.cohort"]  # fmt: skip
    assert named_on(words) == {"method": "a.b:c", "compare": ("a", "b", "c"), "local.algorithm": "scaffold"}
    assert named_on(["command", "--config.compare=('a',"]) == {}


def test_help_lists_the_fields_of_the_components_that_are_named():
    def listed(*words: str) -> str:
        return listing(own=own_fields(config_on(["command", *words])))

    assert "--config.flip.scale=2.0\n    how far" in listed("--config.updates.transforms=mine.py:flip")
    assert "--config.turn.by=3" in listed("--config=mine.py")
    assert "--config.turn.by=3" not in listed("--config=mine.py", "--config.aggregation.name=sum")
    assert listed("--config=nothing.py") == listed() == listing()
    with pytest.raises(UsageError, match=r"method: got none.py:x"):
        listed("--config.method=none.py:x")


def test_points_of_a_sweep_may_name_components_and_set_their_fields():
    base = default()
    base.updates.transforms, base.flip = ("mine.py:flip",), {"scale": 9.0}
    points = [
        {"flip.scale": 3},
        {"turn.by": 2, "aggregation.name": "mine.py:turn"},
        {"aggregation.name": "mine.py:turn", "updates.transforms": ("clip",)},
        {"updates.transforms": []},
    ]
    first, second, third, fourth = configs(base, points)
    assert first.flip.scale == 3.0
    assert (second.turn.by, second.flip.scale) == (2, 9.0)
    assert third.turn.by == 3
    assert "flip" not in third
    assert "flip" not in fourth
    for changes, told in (
        ({"turn.by": 2}, r"sweep: turn.by: got 2; allowed: a field of the config"),
        ({"flip.scale": "x"}, r"sweep: flip.scale: got x; allowed: a value of the field's type"),
        ({"flip.scale": -1.0}, r"flip.scale: got -1.0"),
        ({"updates.transforms": ("mine.py:flop",)}, r"updates.transforms: got mine.py:flop"),
        ({"method": 3}, r"sweep: method: got 3; allowed: a value of the field's type"),
    ):
        with pytest.raises(UsageError, match=told):
            list(configs(base, [changes]))
