"""What is read from updates of a finished run, by its own rounds."""

import json

import jax
import numpy as np
import pytest

from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.audit.part import Settings
from cachefl_jax.simulation import leak_parts
from cachefl_jax.simulation.audit import open_run
from cachefl_jax.simulation.leak_parts import Plan
from cachefl_jax.simulation.leaks import Case, Laboratory, attacked, received
from cachefl_jax.simulation.simulate import simulate
from cachefl_jax.simulation.workdir import Workdir

pytestmark = pytest.mark.quick

PLAN = Plan(attacked=3, rows=(1, 2), fewer=(1,), defended=(1,), cohorts=(3,))


@pytest.fixture(scope="module")
def context(make_bank_in, tmp_path_factory):
    config, folder = default(), tmp_path_factory.mktemp("leaks")
    bank = make_bank_in(folder, text_features=None)  # by texts, rows are so sure that their gradient vanishes
    config.data.name, config.data.path, config.data.validation_share = "feature_bank", str(bank), 0.0
    config.partition.clients, config.cache.keys_per_class, config.rounds = 4, 2, 1
    config.partition.concentration = 100.0
    config.methods, config.engine.devices, config.checkpoint_every = ("cachefl",), 1, 1
    config.local.optimizer, config.cache.alpha, config.cache.beta = "sgd", 1.0, 1.0
    simulate(config, folder / "run")
    return open_run(Workdir(folder / "run"), Settings())


def test_the_server_sees_the_rounds_own_updates(context):
    """Each is the change that a client's plain step makes; their aggregate is their mean, as a secure sum has it."""
    laboratory = Laboratory(context, 3)
    _, learner = laboratory.learner(Case("plain", 2))
    rows = attacked(context.inputs.partition, 3, 2, 0)
    sent = received(learner, learner.params, rows, 1)
    hyper, data = learner.problem.hyper, learner.problem.data
    for own, update in zip(rows, sent, strict=True):
        batch = jax.tree.map(lambda leaf, own=own: leaf[own], data)
        slope = jax.grad(lambda params, batch=batch: learner.local.loss(params, learner.problem.frozen, batch).mean())
        (expected,) = jax.tree.leaves(slope(learner.params))
        (keys,) = jax.tree.leaves(learner.params)
        np.testing.assert_allclose(update, -hyper.learning_rate * (expected + hyper.weight_decay * keys), atol=1e-6)
    (total,) = received(learner, learner.params, rows, 3)
    np.testing.assert_allclose(total, sent.mean(axis=0), atol=1e-6)
    secure = Case("sum", 2, {"aggregation.name": "secure_uniform"}, summed=3)
    (summed,) = received(laboratory.learner(secure)[1], learner.params, rows, 3)
    np.testing.assert_allclose(summed, sent.mean(axis=0), atol=1e-5)


def test_attacked_clients_hold_rows_of_one_site(context):
    partition = context.inputs.partition
    rows = attacked(partition, 6, 3, 1)
    site = np.empty(len(partition.indices), int)
    for number in range(partition.clients):
        site[partition.indices[partition.offsets[number] : partition.offsets[number + 1]]] = number
    assert (np.ptp(site[rows], axis=1) == 0).all()
    assert all(len(set(own)) == 3 for own in rows.tolist())
    with pytest.raises(UsageError, match=r"partition\.clients.*100000 rows"):
        attacked(partition, 1, 100_000, 0)


def test_every_case_is_a_config(context):
    laboratory, plan = Laboratory(context, 3), PLAN._replace(defended=(1, 2))
    cases = [*leak_parts.training_cases(context, plan), *leak_parts.defended_cases(context, plan, 0.1)]
    assert len({(case.label, case.rows) for case in cases}) == len(cases) == 7 + 9 * 2 + 1
    for case in cases:
        laboratory.config(case)


def test_the_part_tells_what_each_case_came_to(context, monkeypatch):
    """Of a few of its cases: each compiles a round."""
    few = {"as the run trains", "none", "local privacy, epsilon 8", "secure sum of 3"}
    for name in ("training_cases", "defended_cases"):
        cases = getattr(leak_parts, name)
        chosen = lambda *given, cases=cases: [case for case in cases(*given) if case.label in few and case.rows == 1]  # noqa: E731
        monkeypatch.setattr(leak_parts, name, chosen)
    record, section = leak_parts.inversion(context, PLAN)
    told = {(case["update"], case["rows"]): case for case in record["cases"]}
    plain = told["as the run trains", 1]
    assert plain["cosine"]["mean"] == pytest.approx(1, abs=1e-3)
    assert plain["exact_classes"]["mean"] == 1
    assert plain["cosine_by_chance"] < 0.9
    assert told["none", 1] == plain | {"update": "none"}
    noise = told["local privacy, epsilon 8", 1]
    assert noise["cosine"]["mean"] < plain["cosine"]["mean"] - 0.1
    assert told["secure sum of 3", 1]["summed"] == 3
    assert record["not_tried"] == []
    assert len(section.tables) == 2  # a bank has no images
    json.dumps(record)


def test_methods_whose_params_meet_no_features_are_refused(context):
    other = context._replace(config=context.config.copy_and_resolve_references())
    other.config.local.algorithm = "scaffold"
    with pytest.raises(UsageError, match=r"method: got CacheFL by scaffold.*class by class"):
        leak_parts.inversion(other, PLAN)
