"""Methods of which a client keeps a part, and Ditto: whole runs against plain loops in float64, and what runs leave."""

import json

import jax
import numpy as np
import pytest
import torch

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import filling, rounds
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.rounds import begin, run_rounds
from cachefl_jax.simulation.simulate import simulate
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.simulation.workdir import Workdir

pytestmark = pytest.mark.quick

CLIENTS, ROUNDS, RATE, BATCH = 4, 3, 0.05, 8
NAMES = ("cachefl_personal", "cachefl_residual")


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), CLIENTS
    config.partition.concentration, config.cache.keys_per_class, config.rounds = 0.5, 2, ROUNDS
    config.local.learning_rate, config.local.batch_size, config.local.shuffle = RATE, BATCH, False
    config.engine.devices, config.engine.strategy, config.eval_every = 1, "scan", 1
    return resolve(changed(config, {"compare": (changes.get("method", "cachefl"),)} | changes))


def trained(config):
    """(learner, the state after the last round)."""
    learner = build(config, prepare(config), name=config.method)
    return learner, run_rounds(config, learner, Workdir(None), begin(config, learner, Workdir(None)))[0]


def torch_logits(name: str, params: list, features: torch.Tensor, config, inputs) -> torch.Tensor:
    """The methods' formulas, written once more; params are (keys, first, second own leaf)."""
    keys, *own = params
    text = torch.tensor(inputs.server.text).double() * inputs.server.logit_scale
    alpha, beta = config.cache.alpha, config.cache.beta
    if name == "cachefl_personal":
        rate = config.cachefl_personal.rate
        alpha, beta = alpha * torch.exp(rate * own[0]), beta * torch.exp(rate * own[1])
    elif name == "cachefl_residual":
        keys = keys + (own[0] @ own[1] if len(own) > 1 else own[0])[:, None, :]
    affinities = torch.exp(-beta * (1 - torch.einsum("bd,nkd->bnk", features, keys)))
    return features @ text.T + alpha * affinities.sum(-1)


def one_client(config, inputs, client: int, params: list, epochs: int) -> list[torch.Tensor]:
    """The params after these epochs on a client's rows, as they lie."""
    features, labels = torch.tensor(inputs.bank.train.features).double(), torch.tensor(inputs.bank.train.labels).long()
    params = [leaf.clone().requires_grad_() for leaf in params]
    kind = torch.optim.SGD if config.local.optimizer == "sgd" else torch.optim.AdamW
    more = {} if kind is torch.optim.SGD else {"eps": config.local.epsilon}
    optimizer = kind(params, lr=config.local.learning_rate, weight_decay=config.local.weight_decay, **more)
    rows = inputs.partition.indices[inputs.partition.offsets[client] : inputs.partition.offsets[client + 1]]
    for first in [*range(0, len(rows), config.local.batch_size)] * epochs:
        these = rows[first : first + config.local.batch_size]
        logits = torch_logits(config.method, params, features[these], config, inputs)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels[these]).backward()
        optimizer.step()
    return [leaf.detach() for leaf in params]


def plain_rounds(config, learner) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    """(shared keys, every client's own leaves) after the run's rounds of all clients, rows as they lie."""
    inputs = prepare(config)
    keys, *start = [torch.tensor(np.array(leaf)).double() for leaf in jax.tree.leaves(learner.params)]
    own, sizes = [[leaf.clone() for leaf in start] for _ in range(CLIENTS)], inputs.partition.sizes
    for _ in range(config.rounds):
        total = torch.zeros_like(keys)
        for client in range(CLIENTS):
            moved, *own[client] = one_client(config, inputs, client, [keys, *own[client]], 1)
            total += sizes[client] / sizes.sum() * moved
        keys = total
    return keys, own


CASES = [
    ("cachefl_personal", {"local.optimizer": "sgd"}),
    ("cachefl_personal", {"local.epsilon": 1e-2}),
    ("cachefl_residual", {"local.optimizer": "sgd"}),
    ("cachefl_residual", {"local.epsilon": 1e-2, "cachefl_residual.rank": 2}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_keys_and_own_leaves_are_those_of_a_plain_loop(make_bank, name, changes):
    config = config_for(make_bank(), method=name, **changes)
    learner, state = trained(config)
    keys, own = plain_rounds(config, learner)
    np.testing.assert_allclose(state.params.keys, keys, atol=1e-5)
    found = jax.tree.leaves(state.clients[0].leaves)
    for place, leaves in enumerate(zip(*own, strict=True)):
        np.testing.assert_allclose(found[place], torch.stack(leaves), atol=1e-5)
        assert np.ptp(found[place], axis=0).max() > 1e-3


@pytest.mark.parametrize(("name", "changes"), [CASES[0], CASES[3]])
def test_each_client_is_scored_by_its_own_model(make_bank, name, changes):
    config = config_for(make_bank(), method=name, **changes)
    learner, _ = trained(config)
    keys, own = plain_rounds(config, learner)
    inputs = prepare(config)
    test, labels = torch.tensor(inputs.bank.test.features).double(), inputs.bank.test.labels
    right = np.stack([
        torch_logits(name, [keys, *leaves], test, config, inputs).argmax(1).numpy() == labels for leaves in own
    ])  # fmt: skip
    entry = simulate(config, None).summary["methods"][name]
    assert entry["test_accuracy"] == pytest.approx(right.mean())
    assert entry["test_accuracy_min"] == pytest.approx(right.mean(axis=1).min())
    by_class = np.stack([right[:, labels == each].mean(axis=1) for each in range(inputs.bank.classes)], axis=1)
    counts = np.stack([
        np.bincount(inputs.bank.train.labels[inputs.partition.owners == client], minlength=inputs.bank.classes)
        for client in range(CLIENTS)
    ])  # fmt: skip
    accuracies = (by_class * counts).sum(axis=1) / counts.sum(axis=1)
    assert entry["clients"]["mean"] == pytest.approx(accuracies.mean())
    assert entry["clients"]["worst_tenth"] == pytest.approx(accuracies.min())


def test_bytes_are_the_keys_alone(make_bank):
    bank = make_bank()
    inputs = prepare(config_for(bank))
    keys = 4 * inputs.bank.classes * 2 * inputs.bank.width
    for name in NAMES:
        entry = simulate(config_for(bank, method=name, rounds=2, compare=(name, "cache_init")), None).summary["methods"]
        assert entry[name]["uplink_bytes_per_client_round"] == entry[name]["downlink_bytes_per_client_round"] == keys
        assert entry["cache_init"]["downlink_bytes_per_client_round"] == keys
        assert entry[name]["total_bytes"] == 2 * CLIENTS * 2 * keys


def test_a_client_that_never_took_part_has_the_servers_start(make_bank):
    config = config_for(make_bank(), method="cachefl_personal", cohort=1, rounds=2)
    state = trained(config)[1]
    numbers = np.stack(jax.tree.leaves(state.clients[0].leaves), axis=1)
    absent = (numbers == 0).all(axis=1)
    assert 2 <= absent.sum() < CLIENTS


DITTO = {"method": "cachefl", "local.algorithm": "ditto", "local.ditto": 0.5}


@pytest.mark.parametrize(("fields", "strategy"), [(DITTO, "chunk"), ({"method": "cachefl_residual"}, "vmap")])
def test_plans_and_devices_give_the_same(make_bank, fields, strategy):
    bank = make_bank()
    one = simulate(config_for(bank, **fields), None)
    spread = {"engine.strategy": strategy, "engine.devices": 3, "engine.client_chunk": 2}
    spread["engine.client_chunk"] *= strategy == "chunk"
    other = simulate(config_for(bank, **fields, **spread), None)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, atol=1e-5), one.params, other.params)
    name = fields["method"]
    for figure in ("test_cross_entropy", "test_accuracy", "clients"):
        found, expected = (each.summary["methods"][name][figure] for each in (one, other))
        assert found == pytest.approx(expected, abs=1e-5)


class Killed(BaseException):
    """Nothing handles it."""


@pytest.mark.parametrize("fields", [DITTO, {"method": "cachefl_personal"}], ids=["ditto", "personal"])
def test_a_killed_run_goes_on_to_the_bit_and_its_checkpoint_is_evaluated_alike(
    make_bank, tmp_path, monkeypatch, fields
):
    config = config_for(make_bank(), **fields, **{"checkpoint_every": 1, "cohort": 2})
    whole = train_and_evaluate(config, tmp_path / "whole")
    some = rounds.some_rounds

    def killing(config, learner, engine, state, number, stop):
        if number == 2:
            raise Killed
        return some(config, learner, engine, state, number, stop)

    monkeypatch.setattr(rounds, "some_rounds", killing)
    with pytest.raises(Killed):
        train_and_evaluate(config, tmp_path / "run")
    monkeypatch.undo()
    again = train_and_evaluate(config, tmp_path / "run")
    untimed = [{**each["methods"][fields["method"]], "seconds_per_round": None} for each in (whole, again)]
    assert untimed[0] == untimed[1]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "run")]
    left, right = ([{**json.loads(line), "seconds": 0} for line in each] for each in lines)
    assert left == right
    told = evaluate(config, tmp_path / "run", None)
    assert told.pop("round") == ROUNDS
    assert told.pop("rows") == {"test": 40, "validation": 20}
    assert told == {name: untimed[0][name] for name in told}


@pytest.mark.parametrize(
    ("fields", "varied"), [(DITTO, "local.ditto"), ({"method": "cachefl_personal"}, "cachefl_personal.rate")]
)
def test_a_sweep_gives_what_runs_give(make_bank, tmp_path, fields, varied):
    bank, values = make_bank(), (0.1, 5.0)
    dealt = fields | {"evaluation.client_rows": "dealt"}
    configs = [config_for(bank, **dealt | {varied: value}) for value in values]
    lines = run_points(configs, [{varied: value} for value in values], tmp_path / "sweep", ["sweep"], False)
    for config, line in zip(configs, lines, strict=True):
        expected = simulate(config, None).summary["methods"][fields["method"]]
        found = line["methods"][fields["method"]]
        for name in ("test_accuracy", "test_cross_entropy", "clients", "total_bytes"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6)
        assert found["explanation"] == expected["explanation"]
        assert "scored by its own model" in found["explanation"]
    assert lines[0]["methods"][fields["method"]]["test_cross_entropy"] != pytest.approx(
        lines[1]["methods"][fields["method"]]["test_cross_entropy"], rel=1e-4
    )


def test_own_leaves_and_own_models_do_not_go_together(make_bank):
    config = config_for(make_bank(), **{"method": "cachefl_personal", "local.algorithm": "ditto"})
    with pytest.raises(UsageError, match="all train the server's model"):
        build(config, prepare(config), name=config.method)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fine_tuned_clients_go_on_from_the_last_round(make_bank, optimizer):
    words = ("cachefl@fine_tuned: local.learning_rate=0.2",)
    fields = {"local.optimizer": optimizer, "local.epsilon": 1e-2, "personal.epochs": 3, "overrides": words}
    config = config_for(make_bank(), method="cachefl", compare=("cachefl", "fine_tuned"), **fields)
    inputs = prepare(config)
    keys, _ = plain_rounds(config, build(config, inputs))
    config.local.learning_rate = 0.2
    test, labels = torch.tensor(inputs.bank.test.features).double(), torch.tensor(inputs.bank.test.labels).long()
    losses, right = [], []
    for client in range(CLIENTS):
        logits = torch_logits("cachefl", one_client(config, inputs, client, [keys], 3), test, config, inputs)
        losses.append(torch.nn.functional.cross_entropy(logits, labels))
        right.append((logits.argmax(1) == labels).double().mean())
    config.local.learning_rate = RATE
    methods = simulate(config, None).summary["methods"]
    found, federated = methods["fine_tuned"], methods["cachefl"]
    assert found["test_cross_entropy"] == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)
    assert found["test_accuracy"] == pytest.approx(torch.stack(right).mean().item())
    assert found["test_accuracy_max"] == pytest.approx(max(right).item())
    assert found["total_bytes"] == federated["total_bytes"]
    assert abs(found["test_cross_entropy"] - federated["test_cross_entropy"]) > 1e-3
    assert found["client_flops_per_round"] == federated["client_flops_per_round"] * (1 + 3 / ROUNDS)


def test_what_cannot_be_fine_tuned_is_refused(make_bank):
    bank = make_bank()
    with pytest.raises(UsageError, match="cachefl@fine_tuned; allowed: with cachefl, whose last round"):
        config_for(bank, compare=("cachefl_residual", "cachefl@fine_tuned"))
    with pytest.raises(UsageError, match="whose clients have no model of their own yet"):
        simulate(config_for(bank, compare=("cachefl_residual", "cachefl_residual@fine_tuned")), None)
    with pytest.raises(UsageError, match=r"fields of local\.\* and personal\.\*"):
        config_for(bank, compare=("cachefl", "fine_tuned"), overrides=("fine_tuned: cache.alpha=3.0",))


def test_what_clients_keep_is_held_against_memory(make_bank, monkeypatch):
    monkeypatch.setattr(filling, "room", lambda problem, plan: 1000)
    with pytest.raises(UsageError, match=r"clients 1 KiB.*fewer clients, or a method or local.algorithm by which they"):
        simulate(config_for(make_bank(), **DITTO), None)


def test_a_users_method_that_names_no_leaves_of_its_own_is_refused(make_bank, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from cachefl_jax.methods.cachefl_personal import cachefl_personal\n"
        "mine = cachefl_personal._replace(personal=lambda params: [True])\n"
    )
    with pytest.raises(UsageError, match=r"method: got .*mine.py:mine \(ValueError"):
        simulate(config_for(make_bank(), method=f"{file}:mine"), None)
