"""Settings that do nothing are said, and those that do something are not."""

import pytest

from cachefl_jax.config import default, lookup, resolve
from cachefl_jax.config.fields import PARTS
from cachefl_jax.config.partition import HEEDED
from cachefl_jax.unused import unused
from experiments.configs import digits, fashion_mnist, feature_bank, images


def told(**changes) -> list[str]:
    config = default()
    config.update_from_flattened_dict(changes)
    return unused(resolve(config))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"local.momentum": 0.9}, "local.momentum=0.9 does nothing under local.optimizer=adamw."),
        ({"local.optimizer": "sgd", "local.epsilon": 1e-8}, "local.epsilon=1e-08 does nothing under local.optimizer="),
        ({"local.batch_size": 0, "local.shuffle": False}, "local.shuffle=False does nothing under local.batch_size=0."),
        ({"partition.classes_per_client": 3}, "partition.classes_per_client=3 does nothing under partition.name=dir"),
        ({"partition.name": "iid", "partition.over": "clients"}, "partition.over=clients does nothing under partition"),
        ({"partition.change_strength": 0.9}, "partition.change_strength=0.9 does nothing under partition.change=none."),
        (
            {"partition.name": "quantity", "partition.concentration": 3.0},
            "partition.concentration=3.0 does nothing under partition.quantity=log_normal.",
        ),
        (
            {"synthesis.source": "held_out", "synthesis.pipeline": "x", "synthesis.steps": 9},
            "synthesis.pipeline=x, synthesis.steps=9 do nothing under synthesis.source=held_out.",
        ),
        (
            {"data.hub": "a/b", "data.broken": "skip"},
            "data.broken=skip, data.hub=a/b do nothing under data.name=digits.",
        ),
        (
            {"data.name": "feature_bank", "data.path": "x.npz", "clip.checkpoint": "y", "data.broken": "skip"},
            "data.broken=skip, clip.checkpoint=y do nothing under data.name=feature_bank.",
        ),
        (
            {"server.optimizer": "adagrad", "server.beta2": 0.9, "server.tau": 0.1},
            "server.beta2=0.9 does nothing under server.optimizer=adagrad.",
        ),
        (
            {"updates.transforms": ("clip",), "updates.noise": 0.5, "updates.clip_norm": 2.0},
            "updates.noise=0.5 does nothing under updates.transforms=('clip',).",
        ),
        ({"aggregation.trim": 0.2}, "aggregation.trim=0.2 does nothing under aggregation.name=mean."),
        ({"engine.strategy": "scan", "engine.block_rows": 9}, "engine.block_rows=9 does nothing under engine.strategy"),
    ],
)
def test_what_does_nothing_is_said_with_the_field_that_decides_it(changes, expected):
    (note,) = told(**changes)
    assert note.startswith(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"local.optimizer": "sgd", "local.momentum": 0.9, "local.nesterov": True},
        {"server.momentum": 0.9},
        {"server.optimizer": "adam"},
        {"server.optimizer": "yogi", "server.beta2": 0.9, "server.tau": 0.1},
        {"aggregation.name": "trimmed_mean", "aggregation.trim": 0.2},
        {"partition.name": "quantity", "partition.quantity": "dirichlet", "partition.concentration": 3.0},
        {"synthesis.steps": 9, "synthesis.guidance": 1.0, "synthesis.prompts": ("a {}",)},
        {"clip.train_views": 2, "clip.views_seed": 3},
        {"engine.client_chunk": 3, "engine.block_rows": 900},
    ],
)
def test_what_is_used_is_not_said(changes):
    assert told(**changes) == []


def test_the_shipped_configs_set_nothing_in_vain():
    bank = feature_bank.get_config()
    bank.data.path = "bank.npz"
    for config in (digits.get_config(), fashion_mnist.get_config(), bank):
        assert unused(resolve(config)) == []


def test_every_rule_is_of_fields_and_every_schemes_field_has_one():
    rules = [(field, rule.decided_by) for part in PARTS for rule in part.unused for field in rule.fields]
    assert len(set(rules)) == len(rules)
    for names in rules:
        for field in names:
            lookup(default(), field)
    assert {(f"partition.{field}", "partition.name") for heeded in HEEDED.values() for field in heeded} <= set(rules)


def test_what_only_a_shipped_config_has_set_is_not_told():
    """Its generator of diffusers, where images are brought; another one is the user's own."""
    config = images.get_config("eurosat")
    config.update_from_flattened_dict({"synthesis.source": "image_folder", "synthesis.path": "drawn"})
    assert unused(resolve(config)) == []
    config.synthesis.pipeline = "mine"
    assert unused(resolve(config)) == ["synthesis.pipeline=mine does nothing under synthesis.source=image_folder."]


def test_a_comparison_that_trains_nothing_says_so():
    line = "compare has no row that is trained: rounds, method and what goes with them do nothing."
    assert line in told(compare=("zero_shot", "cache_init"))
    assert line not in told(compare=("zero_shot", "cachefl"))
    assert line not in told(compare=("zero_shot", "cache_init"), rounds=0)
