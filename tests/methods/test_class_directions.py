"""Class directions against NumPy in float64, written from the formulas of its docstring."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from cachefl_jax import simulate
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.methods.class_directions import Frozen, Told, packed, server_weight, solve, statistics, text_scale
from cachefl_jax.methods.method import Rows
from cachefl_jax.precision import double_precision, in_single
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points, run_points

pytestmark = pytest.mark.quick

SHRINKAGE, TEXT_ROWS = 0.4, 50.0


@pytest.fixture
def config_of(make_bank):
    """(arrays of the bank, fields by dotted name) -> a config of five unequal clients."""

    def make(arrays: dict | None = None, **fields):
        config = default()
        config.data.name, config.data.path = "feature_bank", str(make_bank(**(arrays or {})))
        config.partition.clients, config.partition.concentration = 5, 0.3
        config.engine.devices, config.cache.keys_per_class = 1, 3
        return changed(config, {"method": "class_directions", "compare": ("class_directions",), **fields})

    return make


def scale_of(features, labels, text, scale) -> float:
    """a, by the losses of each scale of a grid."""
    logits, logs = scale * features @ text.T, np.log(2) * np.arange(-5, 3.5, 0.5)
    own = logits[np.arange(len(labels)), labels]
    losses = [(logsumexp(np.exp(log) * logits, axis=1) - np.exp(log) * own).sum() + log**2 / 8 for log in logs]
    best = min(max(int(np.argmin(losses)), 1), len(logs) - 2)
    square, slope, _ = np.polyfit(logs[best - 1 : best + 2] - logs[best], losses[best - 1 : best + 2], 2)
    return float(np.exp(logs[best] - slope / (2 * square)))


def within(features, labels, classes) -> tuple[np.ndarray, np.ndarray, float]:
    """(counts, means, squares within classes)."""
    counts = np.bincount(labels, minlength=classes)
    means = np.stack([features[labels == c].sum(axis=0) / max(counts[c], 1) for c in range(classes)])
    return counts, means, ((features - means[labels]) ** 2).sum()


def weight_of(features, labels, synthetic) -> float:
    """w, where every class has rows."""
    classes, images, _ = synthetic.shape
    counts, means, squares = within(features, labels, classes)
    variance = squares / (len(labels) - classes)
    own = synthetic.mean(axis=1)
    own_variance = ((synthetic - own[:, None]) ** 2).sum() / (classes * (images - 1))
    apart = means - own - (means - own).mean(axis=0)
    excess = (apart**2).sum() / (classes - 1) - np.mean(variance / counts + own_variance / images)
    spare = len(labels) - classes
    return 1 / (1 + images * (spare * max(excess, 0) / variance + 0.1 * classes) / (spare + classes))


def reference(clients, bank, synthetic, weight=None) -> tuple[np.ndarray, np.ndarray]:
    """(weight [N, D], bias [N]) of clients' (features, labels), each one's second moments in half precision."""
    features, labels = (np.concatenate(arrays) for arrays in zip(*clients, strict=True))
    classes, images, width = synthetic.shape
    w, own = weight_of(features, labels, synthetic) if weight is None else weight, synthetic.mean(axis=1)
    images = images if w else 0
    text = np.zeros((classes, width)) if bank.text_features is None else bank.text_features.astype(np.float64)
    counts = np.bincount(labels, minlength=classes) + w * images
    totals = np.stack([features[labels == c].sum(axis=0) + w * synthetic[c].sum(axis=0) for c in range(classes)])
    means = totals / counts[:, None]
    about = sum(((f - own[y]).T @ (f - own[y])).astype(np.float16).astype(np.float64) for f, y in clients)
    exact = sum((f - own[y]).T @ (f - own[y]) for f, y in clients)
    spread = sum((f - means[y]).T @ (f - means[y]) for f, y in clients) + about - exact
    for c in range(classes):
        spread += w * (synthetic[c] - means[c]).T @ (synthetic[c] - means[c])
    covariance, rows = spread / counts.sum(), len(labels) + classes * images
    ridge = 1 / ((rows / width) ** 2 / SHRINKAGE + 1 / 4)
    inverse = np.linalg.inv(covariance + ridge * np.trace(covariance) / width * np.eye(width))
    centre = means.mean(axis=0)
    lengths = np.array([np.sqrt((mean - centre) @ inverse @ (mean - centre)) for mean in means])
    unit = np.sqrt(np.mean(lengths**2)) * (means - centre) @ inverse / lengths[:, None]
    a, each = scale_of(features, labels, text, bank.logit_scale), counts.mean()
    worth = TEXT_ROWS * a if text.any() else 0
    head = (worth * a * bank.logit_scale * text + each * unit) / (worth + each)
    return head, -each / (worth + each) * unit @ centre


def clients_of(config) -> tuple[list, object, np.ndarray]:
    """(features and labels of each client, the bank, the server's features), float64."""
    inputs = prepare(resolve(config))
    train, partition = inputs.bank.train, inputs.partition
    held = np.split(partition.indices, partition.offsets[1:-1])
    clients = [(np.asarray(train.features[rows], np.float64), np.asarray(train.labels[rows])) for rows in held]
    return clients, inputs.bank, inputs.server.synthetic.astype(np.float64)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("server", [True, False])
def test_the_head_is_numpys(config_of, text, server):
    arrays = {} if text else {"text_features": None}
    config = config_of(arrays, **{"closed_form.server_rows": server})
    found = simulate(config, None).artefact
    weight, bias = reference(*clients_of(config), weight=None if server else 0)
    np.testing.assert_allclose(found["weight"], weight, rtol=0, atol=1e-5 * np.abs(weight).max())
    np.testing.assert_allclose(found["bias"], bias, rtol=0, atol=1e-5 * np.abs(weight).max())


def test_any_partition_gives_one_head_but_for_half_precision(config_of):
    one = simulate(config_of(), None).artefact["weight"]
    for clients, seed in ((1, 1), (20, 3)):
        other = simulate(config_of(seed=seed, **{"partition.clients": clients}), None).artefact["weight"]
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-3 * np.abs(one).max())


def test_bytes_are_of_one_round_and_of_half_a_triangle(config_of):
    entry = simulate(config_of(), None).summary["methods"]["class_directions"]
    classes, width = 4, 8
    up = 2 * width * (width + 1) // 2 + 4 * (classes + classes * width + 17)
    down = 4 * (classes * width + classes)
    assert (entry["uplink_bytes_per_client_round"], entry["downlink_bytes_per_client_round"]) == (up, down)
    assert (entry["rounds"], entry["total_bytes"]) == (1, 5 * (up + down))


def test_one_row_and_one_image_a_class_are_better_than_nothing(config_of):
    few = {"data.shots": 1, "cache.keys_per_class": 1, "partition.clients": 4}
    config = config_of({"text_features": None}, compare=("class_directions", "class_directions@round_0"), **few)
    methods = simulate(config, None).summary["methods"]
    assert methods["class_directions"]["test_accuracy"] > 0.5 > 0.25
    assert methods["class_directions@round_0"]["test_accuracy"] > 0.25


def frozen_of(synthetic, text=None, scale=1.0) -> Frozen:
    text = np.zeros((len(synthetic), synthetic.shape[2]), np.float32) if text is None else text
    numbers = (np.float32(number) for number in (1, SHRINKAGE, TEXT_ROWS))
    return Frozen(text, np.float32(scale), synthetic.astype(np.float32), *numbers)


def told_by(frozen, features, labels) -> Told:
    rows = Rows(np.asarray(labels, np.int32), np.asarray(features, np.float32))
    return statistics(frozen, rows, np.ones(len(labels), bool))


def test_images_count_for_less_the_further_they_are_off():
    """Of classes apart by 2, with deviation 0.3, 40 rows and 4 images each."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(6, 8))
    labels = np.repeat(np.arange(6), 40)
    features = centres[labels] + 0.3 * rng.normal(size=(240, 8))
    images = centres[:, None] + 0.3 * rng.normal(size=(6, 4, 8))
    shifts = {"alike": 0, "shifted together": rng.normal(size=8), "shifted by class": rng.normal(size=(6, 1, 8))}
    weights = {}
    with double_precision():
        for name, shift in shifts.items():
            frozen = frozen_of(images + shift)
            weights[name] = float(jax.jit(server_weight)(told_by(frozen, features, labels).sums, frozen))
            expected = weight_of(features, labels, (images + shift).astype(np.float32).astype(np.float64))
            assert weights[name] == pytest.approx(expected, rel=1e-4)
    assert weights["alike"] == pytest.approx(weights["shifted together"], rel=1e-3)
    assert weights["shifted by class"] < 0.1 < 0.8 < weights["alike"]


@pytest.mark.parametrize("truth", [0.25, 1.0, 3.0])
def test_the_texts_scale_is_that_of_the_labels(truth):
    """Labels drawn by softmax(truth x logits) have their least loss there; texts that say nothing stay at 1."""
    rng = np.random.default_rng(1)
    text, features = rng.normal(size=(5, 8)).astype(np.float32), 0.5 * rng.normal(size=(4000, 8))
    chances = np.exp(truth * features @ text.T)
    labels = (rng.random((4000, 1)) > np.cumsum(chances / chances.sum(1, keepdims=True), axis=1)).sum(axis=1)
    with double_precision():
        for texts, expected in ((text, truth), (np.zeros_like(text), 1.0)):
            frozen = frozen_of(np.zeros((5, 1, 8)), texts)
            found = float(text_scale(told_by(frozen, features, labels).text_loss))
            assert found == pytest.approx(expected, rel=0.1)
            assert found == pytest.approx(scale_of(features.astype(np.float32), labels, texts, 1), rel=1e-4)


def test_a_class_of_which_nothing_is_known_is_never_said():
    """No rows, no images and no text of class 2; with text it is told by that."""
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(20, 8)).astype(np.float32), np.arange(20) % 2
    with double_precision():
        for text in (np.zeros((3, 8), np.float32), rng.normal(size=(3, 8)).astype(np.float32)):
            frozen = frozen_of(np.zeros((3, 1, 8)), text)._replace(server_rows=np.float32(0))
            head = jax.tree.map(np.asarray, solve(told_by(frozen, features, labels), frozen))
            said = (features @ head.weight.T + head.bias).argmax(axis=1)
            assert np.isfinite(head.weight).all()
            assert np.isfinite(head.bias).all()
            assert (2 in said) == text.any()


def test_sums_without_a_solution_give_none():
    """Beyond half precision, or with noise that leaves no covariance: the run is refused, no wrong head is made."""
    rng = np.random.default_rng(3)
    features, labels = 300 * rng.normal(size=(40, 8)).astype(np.float32), np.arange(40) % 4
    with double_precision():
        frozen = frozen_of(rng.normal(size=(4, 2, 8)))
        told = told_by(frozen, features, labels)
        assert np.isfinite(np.asarray(solve(in_single(told), frozen).weight)).all()
        noisy = told._replace(sums=told.sums._replace(triangle=told.sums.triangle - 1e9))
        for broken in (packed(told), noisy):
            assert np.isnan(np.asarray(solve(broken, frozen).weight)).all()


def test_a_sweep_of_its_numbers_is_one_program_and_ends_where_runs_do(config_of, tmp_path):
    changes = [{"class_directions.shrinkage": 0.1}, {"class_directions.text_rows": 5.0}]
    configs = [resolve(config_of(**each)) for each in changes]
    assert len({group_of(point) for point in prepared_points(configs, range(2))}) == 1
    lines = run_points(configs, changes, tmp_path / "sweep", [], False)
    for line, config in zip(lines, configs, strict=True):
        entry = simulate(config, None).summary["methods"]["class_directions"]
        assert line["methods"]["class_directions"]["test_accuracy"] == entry["test_accuracy"]
