"""Components of a user: their names, their own fields, their checks; and what ours demand of one another."""

import json

import pytest

from cachefl_jax.config import default, from_json, resolve
from cachefl_jax.config.client import OPTIMIZERS
from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.config.engine import EXACT_IN_DUAL
from cachefl_jax.config.round import SERVER_DEFAULTS
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import CLIENT_OPTIMIZERS, SERVER_OPTIMIZERS
from cachefl_jax.named import find

FLIP = """
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import finite
from cachefl_jax.errors import UsageError
from cachefl_jax.federation.transforms import stateless

def turn(update, sender):
    return -update

def check(config):
    if config.rounds == 7:
        raise UsageError("rounds", 7, "another number", "choose it")
    if config.rounds == 8:
        config.nothing

flip = stateless(
    turn,
    fields=(Field("flip.scale", 2.0, "how far", *finite(0), "raise it", traced=True), *FIELDS),
    check=check,
)
other = stateless(turn, fields=(Field("flip.scale", 3.0, "how far", *finite(0), "raise it"),))
plain = stateless(turn)
"""


@pytest.fixture
def flip(tmp_path, monkeypatch):
    """Writes the file of a transform with a field of its own, and any further ones, into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(*fields: str, name: str = "flip.py") -> str:
        (tmp_path / name).write_text(FLIP.replace("*FIELDS", "".join(f"{field}," for field in fields)))
        return name

    return write


def config_of(*transforms: str, **changes):
    config = default()
    config.update_from_flattened_dict({"updates.transforms": transforms, **changes})
    return config


def test_its_fields_are_filled_in_kept_and_read_back(flip, tmp_path, monkeypatch):
    config = config_of(f"{flip()}:flip")
    assert resolve(config).flip.scale == 2.0
    config.flip = {"scale": 3}
    resolved = resolve(config)
    assert (resolved.flip.scale, type(resolved.flip.scale)) == (3.0, float)
    assert resolved.updates.transforms == (f"{tmp_path}/flip.py:flip",)
    stored = json.loads(json.dumps(resolved.to_dict()))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert from_json(stored) == resolve(from_json(stored)) == resolved
    del stored["flip"]
    assert resolve(from_json(stored)).flip.scale == 2.0
    assert from_json({"method": "/gone.py:probe", "probe": {"scale": 3.0}}).probe.scale == 3.0
    assert resolve(config_of(f"{tmp_path}/flip.py:plain")).updates.transforms == (f"{tmp_path}/flip.py:plain",)


@pytest.mark.parametrize(
    ("brought", "told"),
    [
        ({"scale": -1.0}, "flip.scale: got -1.0; allowed: a finite float32 number, 0 or more; mend: raise it"),
        ({"scale": "x"}, "flip.scale: got x; allowed: a number; mend: correct it"),
        ({"scales": 1.0}, "flip.scales: got 1.0; allowed: fields scale; mend: correct the name"),
        (3, "flip: got 3; allowed: a group of fields; mend: set flip.scale instead"),
    ],
)
def test_its_fields_are_held_to_their_ranges(brought, told, flip):
    config = config_of(f"{flip()}:flip")
    config.flip = brought
    with pytest.raises(UsageError) as caught:
        resolve(config)
    assert str(caught.value) == told


def test_fields_of_a_component_that_is_not_named_are_unknown(flip):
    config = config_of(f"{flip()}:plain")
    config.flip = {"scale": 1.0}
    with pytest.raises(UsageError, match=r"flip: got .*; allowed: fields .*; mend: correct the name"):
        resolve(config)


def test_its_check_sees_the_whole_config(flip):
    with pytest.raises(UsageError, match=r"rounds: got 7; allowed: another number; mend: choose it"):
        resolve(config_of(f"{flip()}:flip", rounds=7))
    with pytest.raises(UsageError, match=r"flip.py:flip: got check \(AttributeError: .*; allowed: a check that"):
        resolve(config_of(f"{flip()}:flip", rounds=8))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("3", r"the field 3; allowed: fields that are cachefl_jax.config.Field"),
        ("Field('scale', 1.0, 'm', *finite(), 'x')", r"the field scale; allowed: .* such as flip.scale"),
        ("Field('local.scale', 1.0, 'm', *finite(), 'x')", r"the field local.scale; .* group of its own"),
        ("Field('update.scale', 1.0, 'm', *finite(), 'x')", r"the field update.scale; .* such as flip.scale"),
        ("Field('flip.low', -1.0, 'm', *finite(0), 'x')", r"the field flip.low with default -1.0; .*0 or more"),
        ("Field('flip.low', None, 'm', *finite(0), 'x')", r"the field flip.low with default None"),
    ],
)
def test_fields_that_cannot_stand_in_a_config_are_refused(field, told, flip):
    with pytest.raises(UsageError, match=rf"flip.py:flip: got {told}"):
        resolve(config_of(f"{flip(field)}:flip"))


def test_two_components_with_a_field_of_one_name_are_refused(flip):
    flip()
    with pytest.raises(UsageError, match=r"flip.py:other: got the field flip.scale; .*call its group otherwise"):
        resolve(config_of("flip.py:flip", "flip.py:other"))
    assert resolve(config_of("flip.py:flip", "flip.py:flip")).flip.scale == 2.0


@pytest.mark.parametrize("field", sorted(set(COMPONENTS) - {"compare"}))
@pytest.mark.parametrize("name", ["magic", "nothing.py:x", "flip.py:nothing"])
def test_every_component_that_is_not_to_be_had_is_told_by_its_field(field, name, flip):
    flip()
    value = (name,) if field.endswith(".transforms") else name
    config = default()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UsageError, match=rf"^{field}: got {name}"):
        resolve(config)


@pytest.mark.parametrize("field", ["method", "local.algorithm", "participation.name", "aggregation.name"])
def test_an_object_of_another_kind_is_refused(field, flip):
    flip()
    config = default()
    config.update_from_flattened_dict({field: "flip.py:plain"})
    with pytest.raises(UsageError, match=rf"{field}: got flip.py:plain \(of type Transform\); allowed: a cachefl_jax"):
        resolve(config)


@pytest.mark.parametrize("field", sorted(set(COMPONENTS) - {"data.name"}))
def test_our_components_lie_where_the_tables_say_and_are_of_their_kind(field):
    for name in COMPONENTS[field].table:
        assert find(field, name, *COMPONENTS[field]) is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "zero_shot"}, r"method: got zero_shot; allowed: cachefl \| .* \| package"),
        ({"local.algorithm": "scaffold"}, r"local.optimizer: got adamw; allowed: sgd with local.algorithm=scaffold"),
        ({"local.algorithm": "fednova"}, r"local.optimizer: got adamw; allowed: sgd with local.algorithm=fednova"),
        (
            {"local.algorithm": "scaffold", "local.optimizer": "sgd", "local.momentum": 0.9},
            r"local.momentum: got 0.9; allowed: 0 with local.algorithm=scaffold",
        ),
        (
            {"local.algorithm": "scaffold", "local.optimizer": "sgd", "local.learning_rate": 0.0},
            r"local.learning_rate: got 0.0; allowed: above 0",
        ),
        (
            {"local.algorithm": "scaffold", "local.optimizer": "sgd", "aggregation.name": "median"},
            r"aggregation.name: got median; allowed: mean, uniform or sum with local.algorithm=scaffold",
        ),
        (
            {"local.algorithm": "scaffold", "local.optimizer": "sgd", "updates.transforms": ("clip",)},
            r"updates.transforms: got clip; allowed: neither clip nor noise with local.algorithm=scaffold",
        ),
        ({"participation.name": "full", "cohort": 3}, r"cohort: got 3; allowed: 0 with participation.name=full"),
        ({"participation.name": "poisson"}, r"cohort: got 0; allowed: 1 or more with participation.name=poisson"),
        ({"aggregation.trim": 0.5}, r"aggregation.trim: got 0.5; allowed: a number from 0 up to \(not including\) 0.5"),
        (
            {"updates.transforms": ("clip", "magic")},
            r"updates.transforms: got magic; allowed: clip \| noise \| top_k \| .* \| package",
        ),
        ({"updates.clip_norm": 0.0}, r"updates.clip_norm: got 0.0; allowed: .*above 0"),
        ({"server.tau": 0.0}, r"server.tau: got 0.0; allowed: .*above 0"),
        ({"evaluation.client_rows": "all"}, r"evaluation.client_rows: got all; allowed: reweighted \| dealt"),
        ({"engine.strategy": "dual"}, r"engine.strategy: got dual; allowed: with local.optimizer sgd"),
    ],
)
def test_what_one_component_demands_of_another(changes, told):
    config = default()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match=told):
        resolve(config)


DUAL = {"engine.strategy": "dual", "local.optimizer": "sgd"}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, False),
        ({"local.algorithm": "fednova", "local.momentum": 0.9, "aggregation.name": "sum"}, False),
        ({"updates.transforms": ("clip",), "aggregation.name": "uniform"}, False),
        ({"updates.transforms": ("flip.py:flip", "clip")}, False),  # the engine's to judge
        ({"local.algorithm": "scaffold"}, True),
        ({"aggregation.name": "median"}, True),
        ({"updates.transforms": ("clip", "noise")}, True),
    ],
)
def test_dual_takes_what_it_does_exactly(changes, refused, flip):
    flip()
    config = default()
    config.update_from_flattened_dict(DUAL | changes)
    if not refused:
        resolve(config)
        return
    with pytest.raises(UsageError, match=r"engine.strategy: got dual; allowed: with .*needs the update itself"):
        resolve(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"local.algorithm": "scaffold", "local.optimizer": "sgd"},
        {"local.algorithm": "fednova", "local.optimizer": "sgd", "local.momentum": 0.9, "local.nesterov": True},
        {"participation.name": "full", "cohort": 20},
        {"participation.name": "poisson", "cohort": 5},
        {"server.optimizer": "adagrad"},
        {"server.optimizer": "yogi"},
        {"aggregation.name": "trimmed_mean", "aggregation.trim": 0.0, "updates.transforms": ("clip", "noise")},
    ],
)
def test_what_goes_together_is_taken(changes):
    config = default()
    config.update_from_flattened_dict(changes)
    resolve(config)


def test_dual_is_exact_in_the_engine_for_what_the_config_says_of_ours():
    exact = {
        "local.algorithm": lambda work: not (work.correct or work.update or work.keep),
        "aggregation.name": lambda aggregation: aggregation.linear,
        "updates.transforms": lambda transform: transform.factor is not None,
    }
    assert set(exact) == set(EXACT_IN_DUAL)
    for field, (table, names) in EXACT_IN_DUAL.items():
        assert [name for name in table if exact[field](find(field, name, table))] == list(names)


def test_the_engine_has_every_optimizer_that_a_config_may_name():
    assert set(OPTIMIZERS) <= set(CLIENT_OPTIMIZERS)
    assert set(SERVER_DEFAULTS) <= set(SERVER_OPTIMIZERS)
