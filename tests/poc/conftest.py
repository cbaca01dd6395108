"""A decision as `cachefl poc` writes it, made up: three sites, three classes, four rows."""

import copy

import numpy as np
import pytest

from cachefl_jax.poc import costs, generation, privacy, work
from cachefl_jax.study.statistics import EQUAL


def gain(points: float, half: float, verdict: str) -> dict:
    return {"points": points, "half": half, "p": 0.01, "verdict": verdict}


def row(label: str, accuracy: float, regime: str = "federated", **more) -> dict:
    told = {
        "label": label, "regime": regime, "test_accuracy": accuracy, "error": 0.012, "std_seeds": 0.004,
        "validation_accuracy": accuracy - 0.01, "values": {}, "tried": 1, "uplink_bytes_per_client_round": None,
        "downlink_bytes_per_client_round": None, "total_bytes": None, "rounds": None, "client_flops_per_round": None,
        "seconds_per_round": None, "against_alone": None, "against_own": None,
    }  # fmt: skip
    return told | more


ROUND = 4 * 3 * 4 * 128
ROWS = {
    "cachefl": row(
        "CacheFL", 0.812, values={"cache.alpha": 3.0}, tried=12, rounds=20, uplink_bytes_per_client_round=ROUND,
        downlink_bytes_per_client_round=ROUND, total_bytes=2 * 3 * 20 * ROUND, client_flops_per_round=4e8,
        seconds_per_round=0.03, against_alone=gain(4.2, 1.1, "better"),
    ),
    "ridge": row(
        "ridge", 0.805, rounds=1, uplink_bytes_per_client_round=40_000, downlink_bytes_per_client_round=1_536,
        total_bytes=3 * 41_536, against_alone=gain(3.5, 1.4, "better"), against_own=gain(-0.7, 1.0, EQUAL),
    ),
    "local_only": row("each site alone", 0.770, "alone"),
    "zero_shot": row("zero-shot CLIP", 0.612, "zero_shot", against_alone=gain(-15.8, 2.2, "worse")),
}  # fmt: skip
NAMES = ("Aachen <north>", "Bonn", "Celle")
SITES = [
    {"name": name, "train": train, "validation": 20, "test": 30, "image_bytes": 900 * train,
     "rows": {"cachefl": 0.8, "local_only": 0.7, "zero_shot": 0.6}, "gain": found}
    for name, train, found in zip(
        NAMES, (90, 60, 30),
        (gain(10.0, 2.0, "better"), gain(-5.0, 1.5, "worse"), gain(0.4, 2.0, EQUAL)), strict=True,
    )
]  # fmt: skip
CLASSES = [
    {"name": name, "train": 60, "test": 30, "rows": {"cachefl": 0.8, "local_only": 0.7},
     "gain": gain(1.0, 3.0, EQUAL)}
    for name in ("cat", "dog", "frog")
]  # fmt: skip
CONFIG = {
    "synthesis": {"source": "image_folder", "images_per_class": 8}, "poc": {"synthetic_origin": "generated"},
    "privacy": {"mechanism": "none"}, "aggregation": {"name": "mean"},
}  # fmt: skip
MODEL = {"name": "pocket CLIP", "bytes": 1_600_000, "image_forward_flops": 6e7}
ENTRIES = {"cachefl": {"label": "CacheFL", "privacy": "A client sends tuned keys and no image."}}


@pytest.fixture
def decision() -> dict:
    """A decision with every section."""
    told = {
        "verdict": {
            "sentence": "Training together (CacheFL) is better than each site alone by 4.2 ± 1.1 points.",
            "kind": "better", "more": ["CacheFL is better than zero-shot CLIP (+20.0 ± 2.1 points)."],
        },
        "recommended": "cachefl", "own": "cachefl", "rows": ROWS,
        "current": {"file": "today.csv", "label": "your model of today", "test_accuracy": 0.74,
                    "against": {"cachefl": gain(7.2, 1.5, "better")}},
        "sites": SITES, "classes": CLASSES,
        "confusion": {"row": "cachefl", "counts": [[24, 5, 1], [3, 27, 0], [0, 2, 28]]},
        "rounds": {"evaluated": [0, 5, 10, 20], "validation": [0.6, 0.75, 0.79, 0.8], "test": [0.6, 0.74, 0.8, 0.812],
                   "enough": 10, "rule": "The first round within one standard error of the best on validation."},
        "left_out": [{"site": name, "without": {"others": 0.79, "own": 0.7}, "with": {"others": 0.81, "own": 0.8}}
                     for name in NAMES],
        "shots": {"shots": [1, 2, 4], "rows": {"cachefl": [0.65, 0.7, 0.75], "local_only": [0.5, 0.6, 0.7]},
                  "std": {"cachefl": [0.02, 0.01, 0.01]}},
        "work": work.work(work.Site(90, 6e7, 20, 4e8, 0.03, 3), work.Here(800.0, 40_000_000, 900_000)),
        "generation": generation.generation(generation.Facts("image_folder", "/x/drawn", {}, 24, 0.0)),
        "privacy": privacy.privacy(privacy.Facts(CONFIG, ENTRIES, "cachefl", "cachefl")),
        "choice": privacy.choice(privacy.Choice(60, 12, 90)),
        "provenance": {"rows": [["Server's set", "brought along in drawn"]]},
        "untested": ["A GPU: everything was computed on CPU cores."],
        "data": {"path": "/x/sites", "layout": "site/class/image", "classes": 3, "sites": 3, "train": 180,
                 "validation": 60, "test": 90, "notes": ["Two near-duplicates lie on one side."], "duplicates": 2},
        "config": CONFIG, "seeds": [0, 1, 2], "versions": {"jax": "0.11.2"}, "minutes": 10,
        "seconds": {"tuned": 400.0, "run": 50.0},
        "repeat": "cachefl poc --config=runs/poc/config.json",
    }  # fmt: skip
    told |= costs.costs(costs.Facts(ROWS, "cachefl", "cachefl", SITES, 3, 128, MODEL))
    return copy.deepcopy(told)


@pytest.fixture
def large(decision) -> dict:
    """The same with 40 classes and 12 sites of long names."""
    drawn = np.random.default_rng(0)
    decision["classes"] = [CLASSES[0] | {"name": f"class number {number} with a long name"} for number in range(40)]
    decision["sites"] = [SITES[0] | {"name": f"the site of hospital number {number}"} for number in range(12)]
    decision["confusion"]["counts"] = drawn.integers(0, 9, (40, 40)).tolist()
    return decision
