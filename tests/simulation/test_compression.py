"""Encodings as a config names them."""

import jax
import pytest

from cachefl_jax import simulate
from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.parts import chain, hypers_of

pytestmark = pytest.mark.quick


def config_of(**changes):
    config = default()
    config.update_from_flattened_dict(changes)
    return config


def test_names_side_by_side_are_one_encoding():
    names = ("clip", "top_k", "quantize")
    config = resolve(config_of(**{"updates.transforms": names, "downloads.transforms": ("rotated_quantize",)}))
    assert [name for name, _ in chain(config, "updates")] == ["clip", "top_k"]
    assert chain(config, "updates")[1][1] is chain(config, "updates")[1][1]
    parts = hypers_of(config, False)[2]
    assert len(parts.transforms) == 2
    assert jax.tree.leaves(parts.transforms) == [1.0]
    assert len(parts.downloads) == 1


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"updates.transforms": ("quantize", "top_k")}, "updates.transforms: got top_k; allowed: before quantize"),
        ({"updates.transforms": ("top_k", "low_rank")}, "updates.transforms: got low_rank; allowed: one that chooses"),
        ({"updates.transforms": ("float16", "quantize")}, "updates.transforms: got quantize; allowed: one that writes"),
        ({"updates.transforms": ("top_k", "clip", "quantize")}, "updates.transforms: got clip; allowed: before or aft"),
        ({"updates.transforms": ("quantize", "noise")}, "updates.transforms: got noise; allowed: before quantize"),
        ({"updates.error_feedback": True}, "updates.error_feedback: got True; allowed: with an encoding"),
        (
            {"updates.error_feedback": True, "updates.transforms": ("clip", "noise", "quantize")},
            "updates.error_feedback: got True; allowed: False with noise for privacy",
        ),
        (
            {"updates.error_feedback": True, "updates.transforms": ("own_classes",)},
            "updates.error_feedback: got True; allowed: False with own_classes",
        ),
        (
            {"method": "lora", "updates.transforms": ("own_classes",)},
            "updates.transforms: got own_classes; allowed: with params by class",
        ),
        (
            {"aggregation.name": "secure_mean", "updates.transforms": ("top_k",)},
            "updates.transforms: got top_k; allowed: no encoding with aggregation.name=secure_mean",
        ),
        (
            {"privacy.mechanism": "local", "privacy.epsilon": 8.0, "updates.transforms": ("quantize",)},
            "updates.transforms: got quantize; allowed: no encoding with privacy.mechanism=local",
        ),
        ({"downloads.transforms": ("own_classes",)}, "downloads.transforms: got"),
        (
            {"engine.strategy": "dual", "local.optimizer": "sgd", "updates.transforms": ("quantize",)},
            "engine.strategy: got dual",
        ),
        (
            {"local.algorithm": "scaffold", "local.optimizer": "sgd", "updates.transforms": ("float16",)},
            "updates.transforms: got float16; allowed: no encoding with local.algorithm=scaffold",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, refusal):
    with pytest.raises(UsageError, match=refusal):
        resolve(config_of(**changes))


def test_a_run_tells_the_bytes_that_it_measured(make_bank):
    config = config_of(**{
        "data.name": "feature_bank", "data.path": str(make_bank()), "partition.clients": 3, "cache.keys_per_class": 3,
        "partition.concentration": 0.3, "rounds": 3, "compare": ("cachefl",), "engine.devices": 1,
        "updates.transforms": ("own_classes", "quantize"), "downloads.transforms": ("float16",),
    })  # fmt: skip
    found = simulate(config, None)
    entry = found.summary["methods"]["cachefl"]
    width, classes, keys = 8, 4, 3
    whole = 1 + classes * keys * (4 + width)
    for line in found.records[1:]:
        classes_sent, rest = divmod(line["bytes_up"] - line["cohort"], keys * (4 + width))
        assert rest == 0
        assert line["cohort"] <= classes_sent < classes * line["cohort"]
        assert line["bytes_down"] == 2 * width * classes * keys * line["cohort"]
    sent, clients = (sum(line[name] for line in found.records) for name in ("bytes_up", "cohort"))
    assert entry["uplink_bytes_per_client_round"] == pytest.approx(sent / clients)
    assert entry["uplink_bytes_per_client_round"] < whole
    assert entry["total_bytes"] == sent + sum(line["bytes_down"] for line in found.records)
