"""Closed forms against NumPy in float64, written from the formulas; any partition, any regime, any plan."""

import json
import pathlib

import jax
import numpy as np
import pytest
from scipy.linalg import solve

from cachefl_jax import simulate
from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.data import load_bank
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients, Plan, compile_run
from cachefl_jax.methods import Rows
from cachefl_jax.methods.class_sums import Frozen
from cachefl_jax.methods.fed_cof import fed_cof as fed_cof_method
from cachefl_jax.methods.fed_pft import fed_pft as fed_pft_method
from cachefl_jax.methods.gda import gda as gda_method
from cachefl_jax.methods.ncm import ncm as ncm_method
from cachefl_jax.methods.ridge import ridge as ridge_method
from cachefl_jax.precision import double_precision
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.parts import federation_of
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points, run_points

pytestmark = pytest.mark.quick

ADDITIVE = ("ncm", "gda", "ridge")
KEYS = 3  # the server's images of each of the bank's classes


@pytest.fixture
def config_of(make_bank):
    """(method, its compare=(...), fields by dotted name) -> a config of five unequal clients."""
    path = str(make_bank())

    def make(method: str, *compare: str, **fields):
        config = default()
        config.data.name, config.data.path = "feature_bank", path
        config.partition.clients, config.partition.concentration = 5, 0.3
        config.engine.devices, config.cache.keys_per_class = 1, KEYS
        return changed(config, {"method": method, "compare": compare or (method,), **fields})

    return make


def rows_of(config, server: bool = True, held=slice(None)) -> tuple[np.ndarray, np.ndarray, int]:
    """(features [n, D] float64, labels [n], N) of the training rows `held`, and of the server's images."""
    bank = load_bank(pathlib.Path(config.data.path))
    features, labels = bank.train.features[held], bank.train.labels[held]
    if server:
        own = bank.synthetic.features, bank.synthetic.labels
        features, labels = np.concatenate([features, own[0]]), np.concatenate([labels, own[1]])
    return features.astype(np.float64), labels, bank.classes


def ridge(features, labels, classes, penalty=0.1):
    """{"weight": W [N, D]}, by least squares on the rows themselves with sqrt(penalty) I below them."""
    rows = np.concatenate([features, np.sqrt(penalty) * np.eye(features.shape[1])])
    targets = np.concatenate([np.eye(classes)[labels], np.zeros((features.shape[1], classes))])
    return {"weight": np.linalg.lstsq(rows, targets, rcond=None)[0].T}


def class_means(features, labels, classes):
    return np.stack([features[labels == label].mean(axis=0) for label in range(classes)])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ncm(features, labels, classes):
    return {"weight": unit(class_means(features, labels, classes))}


def gda(features, labels, classes):
    """{"weight": [N, D], "bias": [N]}, as the formulas of the paper read."""
    means, width = class_means(features, labels, classes), features.shape[1]
    covariance = np.cov((features - means[labels]).T)
    shrunk = (len(features) - 1) * covariance + np.trace(covariance) * np.eye(width)
    weight = means @ (width * np.linalg.inv(shrunk))
    return {"weight": weight, "bias": np.log(1 / classes) - (weight * means).sum(axis=1) / 2}


def fed_cof(clients, classes, gamma=1e-4):
    """{"weight": [N, D]} of clients, each (features, labels), class by class."""
    features = np.concatenate([own for own, _ in clients])
    gram, sums = len(features) * np.outer(features.mean(axis=0), features.mean(axis=0)), []
    for label in range(classes):
        held = [own[of == label] for own, of in clients if (of == label).any()]
        everything = np.concatenate(held)
        away = np.stack([np.sqrt(len(own)) * (own.mean(axis=0) - everything.mean(axis=0)) for own in held])
        covariance = away.T @ away / max(len(held) - 1, 1) + gamma * np.eye(features.shape[1])
        gram += (len(everything) - 1) * covariance
        sums.append(everything.sum(axis=0))
    return {"weight": unit(solve(gram, np.stack(sums).T).T)}


REFERENCES = {"ncm": ncm, "gda": gda, "ridge": ridge}


def assert_same(found: dict, expected: dict) -> None:
    """Each array within 1e-5 of its largest number."""
    found = {name: array for name, array in found.items() if len(array)}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * max(np.abs(array).max(), 1))


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("method", REFERENCES)
def test_the_head_is_numpys(config_of, method, server):
    config = config_of(method, **{"closed_form.server_rows": server})
    results = simulate(config, None)
    assert_same(results.artefact, REFERENCES[method](*rows_of(config, server)))
    assert results.metadata["closed_form.server_rows"] is server


@pytest.mark.parametrize(("method", "dtype"), [*((method, "float32") for method in ADDITIVE), ("ridge", "float64")])
def test_twenty_partitions_give_one_head(config_of, method, dtype):
    """Of 1 to 30 clients, some large and some without rows; but for float32's rounding, where sums travel so."""
    config = resolve(config_of(method, **{"closed_form.dtype": dtype}))
    rng, most, heads = np.random.default_rng(0), 30, []
    learner, rows = build(config, prepare(config)), len(load_bank(pathlib.Path(config.data.path)).train.labels)
    parts = federation_of(config, learner.method, rows)
    state, run = learner.start(), None
    expected = REFERENCES[method](*rows_of(config))
    for clients in (1, most, *rng.integers(2, most, 18)):
        owners = np.sort(rng.choice(clients, rows, p=rng.dirichlet(np.full(clients, 0.5))))
        offsets = np.searchsorted(owners, np.arange(most + 1)).astype(np.int32)
        problem = learner.problem._replace(clients=Clients(offsets, rng.permutation(rows).astype(np.int32)))
        run = run or compile_run(parts, Plan("chunk", 8), 1, state, problem)
        found, _ = run(jax.tree.map(np.copy, state), np.int32(1), problem)
        assert_same(found.params._asdict(), expected)
        heads.append(np.asarray(found.params.weight))
    spread = np.ptp(np.stack(heads), axis=0).max()
    assert (spread < 2e-7) if dtype == "float64" else (spread > 0)
    classes, width = heads[0].shape
    size = {"ncm": 0}.get(method, width * (width + 1) // 2) + classes + classes * width
    assert learner.traffic()[0] == np.dtype(dtype).itemsize * size


def test_cohorts_over_devices_send_what_their_rows_are(config_of):
    config = config_of("ridge", cohort=2, **{"engine.devices": 2})
    found = simulate(config, None)
    partition = prepare(resolve(config)).partition
    clients = np.split(partition.indices, partition.offsets[1:-1])
    pairs = [(one, other) for one in range(5) for other in range(one)]
    errors = []
    for pair in pairs:
        held = np.concatenate([clients[number] for number in pair])
        errors.append(np.abs(found.artefact["weight"] - ridge(*rows_of(config, held=held))["weight"]).max())
    assert min(errors) < 1e-5 < 1e-3 < np.sort(errors)[1]


def test_batches_of_a_large_client_add_up(config_of, monkeypatch):
    monkeypatch.setattr("cachefl_jax.simulation.parts.BATCH", 7)
    config = config_of("ridge")
    assert_same(simulate(config, None).artefact, ridge(*rows_of(config)))


def test_every_regime_is_the_formula_on_its_rows(config_of, tmp_path):
    words = ("ridge", "ridge@alone", "ridge@centralized", "ridge@round_0", "zero_shot")
    config = config_of("ridge", *words, **{"ridge.mix": 50.0})
    methods = simulate(config, tmp_path / "run").summary["methods"]
    bank, partition = load_bank(pathlib.Path(config.data.path)), prepare(resolve(config)).partition
    test, text = bank.test.features.astype(np.float64), bank.text_features.astype(np.float64)

    def accuracy(held) -> float:
        weight = ridge(*rows_of(config, held=held))["weight"]
        logits = bank.logit_scale * test @ text.T + 50 * test @ weight.T
        return (logits.argmax(axis=1) == bank.test.labels).mean()

    alone = [accuracy(rows) for rows in np.split(partition.indices, partition.offsets[1:-1])]
    expected = [accuracy(slice(None)), np.mean(alone), accuracy(slice(None)), accuracy(slice(0))]
    assert [methods[word]["test_accuracy"] for word in words[:4]] == pytest.approx(expected, abs=1e-9)
    classes, width = text.shape
    up, down = 4 * (classes + classes * width + width * (width + 1) // 2), 4 * classes * width
    told = methods["ridge"]
    assert (told["uplink_bytes_per_client_round"], told["downlink_bytes_per_client_round"]) == (up, down)
    assert (told["total_bytes"], told["rounds"]) == (5 * (up + down), 1)
    rows = 60 / 5  # of a client; its second moments take 2 D^2 operations a row, in batches of the largest client's
    assert 1 < told["client_flops_per_round"] / (rows * 2 * width**2) < 10
    assert told["seconds_per_round"] is None  # of a single round, whose call is a program's first
    # A client by itself also solves for its head: a factor of [D, D], and two triangular solves for N columns.
    solving = methods["ridge@alone"]["client_flops_per_round"] - told["client_flops_per_round"]
    assert 1 < solving / (width**3 / 3 + 2 * width**2 * classes) < 10
    # What was left behind is evaluated, and not done again.
    stored = stored_config(["evaluate", f"--workdir={tmp_path / 'run'}"])
    assert evaluate(stored, tmp_path / "run", None)["test_accuracy"] == told["test_accuracy"]
    before = (tmp_path / "run" / "summary.json").read_bytes()
    again = simulate(config, tmp_path / "run")
    assert before == (tmp_path / "run" / "summary.json").read_bytes()
    assert_same(again.artefact, ridge(*rows_of(config)))
    assert json.loads(before)["methods"]["ridge"]["label"] == "ridge regression"


def test_a_sweep_of_numbers_is_one_program_and_ends_where_runs_do(config_of, tmp_path):
    changes = [{"ridge.penalty": 0.01, "ridge.mix": 1.0}, {"ridge.penalty": 10.0, "ridge.mix": 100.0}]
    changes.append({"closed_form.server_rows": False})
    configs = [resolve(config_of("ridge", **each)) for each in changes]
    assert len({group_of(point) for point in prepared_points(configs, range(3))}) == 1
    lines = run_points(configs, changes, tmp_path / "sweep", [], False)
    for line, config in zip(lines, configs, strict=True):
        entry = simulate(config, None).summary["methods"]["ridge"]
        for name in ("test_accuracy", "validation_accuracy", "client_flops_per_round", "total_bytes"):
            assert line["methods"]["ridge"][name] == entry[name]


def test_afls_recursion_without_its_regularisers_is_ridge_without_a_penalty(config_of):
    """arXiv 2405.16240: each client sends (C_k, W_k), C_k = F_k' F_k + gamma I; the server merges two at a time."""
    config = config_of("ridge", **{"closed_form.server_rows": False, "ridge.penalty": 1e-5})
    features, labels, classes = rows_of(config, server=False)
    gamma, width, sums = 1.0, features.shape[1], None
    parts = np.array_split(np.random.default_rng(1).permutation(len(features)), 7)
    for held in parts:
        gram = features[held].T @ features[held] + gamma * np.eye(width)
        weight = solve(gram, features[held].T @ np.eye(classes)[labels[held]])
        if sums is not None:
            both = sums[0] + gram
            weight = solve(both, sums[0] @ sums[1] + gram @ weight)
            gram = both
        sums = gram, weight
    free = solve(sums[0] - len(parts) * gamma * np.eye(width), sums[0] @ sums[1])
    np.testing.assert_allclose(simulate(config, None).artefact["weight"], free.T, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("local.algorithm", "scaffold"), ("aggregation.name", "median"), ("server.optimizer", "adam"),
     ("server.learning_rate", 0.5)],
)  # fmt: skip
def test_a_round_of_other_parts_is_refused(config_of, tmp_path, field, value):
    optimizer = {"local.optimizer": "sgd"} if value == "scaffold" else {}
    with pytest.raises(UsageError, match=f"{field}: got {value}; allowed: .* with ridge regression, which is solved"):
        simulate(config_of("ridge", **{field: value, **optimizer}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sums_go_through_the_transforms_and_are_refused_where_noise_leaves_no_solution(config_of, tmp_path):
    chain = {"updates.transforms": ("clip", "noise"), "updates.clip_norm": 1e9, "closed_form.dtype": "float64"}
    config = config_of("ridge", **chain)
    assert_same(simulate(config, None).artefact, ridge(*rows_of(config)))
    with pytest.raises(UsageError, match="method: got ridge; allowed: sums from which it can be solved .*round 1"):
        simulate(config_of("ridge", **chain, **{"updates.noise": 100.0}), None)


def test_overrides_reach_a_closed_form_beside_a_trained_method(config_of):
    config = config_of("cachefl", "cachefl", "ridge", rounds=2, overrides=("ridge: ridge.penalty=2.0",))
    config.server.optimizer = "adam"
    with pytest.raises(UsageError, match="server.optimizer"):
        simulate(config, None)
    config.overrides = (*config.overrides, "ridge: server.optimizer=sgd", "ridge: server.learning_rate=1.0",
                        "ridge: server.momentum=0.0")  # fmt: skip
    methods = simulate(config, None).summary["methods"]
    assert (methods["cachefl"]["rounds"], methods["ridge"]["rounds"]) == (2, 1)


def clients_of(config) -> list[tuple[np.ndarray, np.ndarray]]:
    """(features, labels) of each client, and of the server."""
    features, labels, _ = rows_of(config)
    partition = prepare(resolve(config)).partition
    held = [*np.split(partition.indices, partition.offsets[1:-1]), np.arange(partition.offsets[-1], len(features))]
    return [(features[rows], labels[rows]) for rows in held if len(rows)]


def test_fed_cof_reads_the_covariance_off_the_clients_means_so_it_depends_on_who_holds_what(config_of):
    found = []
    for seed in range(2):
        config = config_of("fed_cof", seed=seed)
        results = simulate(config, None)
        expected = fed_cof(clients_of(config), 4)
        assert_same(results.artefact, expected)
        found.append(results.artefact["weight"])
    assert np.abs(found[0] - found[1]).max() > 1e-2
    told = results.summary["methods"]["fed_cof"]
    assert told["uplink_bytes_per_client_round"] == 4 * (4 + 4 * 8)


def test_what_needs_each_clients_statistics_runs_on_several_devices_and_alone(config_of):
    words = ("fed_pft", "fed_pft@alone", "fed_cof")
    config = config_of("fed_pft", *words, **{"engine.devices": 2})
    methods = simulate(config, None).summary["methods"]
    for name, told in methods.items():
        assert told["test_accuracy"] > (0.8 if "@alone" not in name else 0.6)
    assert methods["fed_pft"]["uplink_bytes_per_client_round"] == 4 * (4 + 2 * 4 * 8)


def solved(form, frozen, features, labels):
    """The head of these rows as one client's."""
    with double_precision():
        rows = Rows(labels, features)
        sums = form.statistics(frozen, rows, np.ones(len(labels), bool))
        return jax.device_get(form.solve(jax.tree.map(lambda leaf: leaf[None] if form.collect else leaf, sums), frozen))


@pytest.mark.parametrize("method", [ncm_method, gda_method, ridge_method, fed_cof_method, fed_pft_method])
def test_a_class_without_rows_is_never_predicted_and_every_number_is_finite(method):
    rng = np.random.default_rng(0)
    draw = lambda *shape: unit(np.abs(rng.normal(size=(np.prod(shape), 6))) + 0.2).reshape(*shape, 6)  # noqa: E731
    text, synthetic = draw(3).astype(np.float32), draw(3, 2).astype(np.float32)
    own = np.uint32(0) if method is fed_pft_method else np.float32(0.01)
    frozen = Frozen(text, np.float32(0), synthetic, np.float32(0), np.float32(1), (own,))
    features, labels = draw(20).astype(np.float32), np.arange(20, dtype=np.int32) % 2
    for count in (20, 2, 1):  # one row of each class shows no spread; one client has one class
        head = solved(method.closed_form, frozen, features[:count], labels[:count])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(head))
        logits = method.logits(jax.tree.map(np.float32, head), frozen, Rows(None, features))
        if count == 20 or method is not gda_method:
            assert (np.asarray(logits).argmax(axis=1) < 2).all()
        else:
            assert not np.asarray(logits).any()  # nothing is known of the spread: CLIP's texts alone answer


def test_rows_without_spread_are_refused(config_of, tmp_path):
    few = {"data.shots": 1, "partition.clients": 2, "closed_form.server_rows": False}
    with pytest.raises(UsageError, match="method: got GDA with 4 rows of 4 classes; allowed: more than 4 rows"):
        simulate(config_of("gda", **few), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with_server = simulate(config_of("gda", **few | {"closed_form.server_rows": True}), None)
    assert with_server.summary["methods"]["gda"]["test_accuracy"] > 0.5
