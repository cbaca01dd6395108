"""Every product of a run is of full float32, whatever the backend would choose: one arithmetic in one table."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core.primitives import dot_general_p

from cachefl_jax import simulate
from cachefl_jax.config import default, resolve
from cachefl_jax.config.method import METHOD_NAMES
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import make_scores
from cachefl_jax.methods import Rows
from cachefl_jax.precision import MATMULS
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.environment import settled
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick


@pytest.fixture
def precisions(monkeypatch):
    """Of every product that is traced or run from here on, the precision that is asked for; none is known before."""
    make_scores.cache_clear()
    seen, real = [], dot_general_p.bind

    def bind(*arguments, **parameters):
        seen.append(parameters["precision"])
        return real(*arguments, **parameters)

    monkeypatch.setattr(dot_general_p, "bind", bind)
    return seen


FULL = {(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)}


def assert_full(precisions: list) -> None:
    assert precisions
    assert set(precisions) == FULL


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(bank)
    config.partition.clients, config.rounds, config.engine.devices = 3, 1, 1
    config.cache.keys_per_class, config.engine.strategy = 2, "scan"
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(("strategy", "optimizer"), [("scan", "adamw"), ("dual", "sgd")])
def test_all_products_of_a_run_with_all_its_baselines_are_full_float32(
    make_bank, tmp_path, precisions, strategy, optimizer
):
    fields = {"engine.strategy": strategy, "local.optimizer": optimizer, "local.clip_norm": 1.0}
    config = config_for(make_bank(), **fields)
    with jax.default_matmul_precision("bfloat16"):  # as a user's environment may have it
        summary = train_and_evaluate(config, tmp_path / "run")
    assert_full(precisions)
    assert summary["precision"] == {"matmul": "highest", "dtype": "float32"}


def test_all_products_of_a_sweep_are_full_float32(make_bank, tmp_path, precisions):
    changes = [{"cache.alpha": 1.0}, {"cache.alpha": 2.0}]
    configs = [config_for(make_bank(), **each) for each in changes]
    with jax.default_matmul_precision("bfloat16"):
        run_points(configs, changes, tmp_path / "sweep", [], side_by_side=False)
    assert_full(precisions)


def test_the_precision_of_a_run_is_that_of_all_its_products_and_of_no_later_run(make_bank, tmp_path, precisions):
    found, bank = {}, make_bank()
    for name in ("float32", "float32_3x", "tf32", "float32"):
        precisions.clear()
        config = config_for(bank, **{"engine.precision": name})
        summary = train_and_evaluate(config, tmp_path / f"{name}{len(found)}")
        assert summary["precision"]["matmul"] == MATMULS[name]
        found[name] = summary["methods"]["cachefl"]["test_accuracy"]
        due = precision_of(name)
        assert set(precisions) == {due}, name
    assert jax.config.jax_default_matmul_precision is None
    assert found["float32_3x"] == pytest.approx(found["float32"], abs=0.05)


def precision_of(name: str):
    """What products are asked for by a name of `engine.precision`."""
    with jax.default_matmul_precision(MATMULS[name]):
        (due,) = {eqn.params["precision"] for eqn in jax.make_jaxpr(jnp.dot)(*jnp.ones((2, 3, 3))).eqns}
    return due


@pytest.mark.parametrize(
    "name", ["linear_probe", "class_directions", "ridge", "gda", "prompt_fl", "fed_tpg", "full_fine_tuning"]
)
def test_every_method_of_a_table_is_scored_in_its_precision(
    make_bank, make_pictures, config_for_images, tmp_path, precisions, name
):
    of_towers = name in ("prompt_fl", "fed_tpg", "full_fine_tuning")
    if of_towers:
        config = config_for_images(make_pictures(tmp_path / "images", {"red square": 8, "blue bar": 8}))
    else:
        config = config_for(make_bank())
    config.engine.precision, config.method, config.methods = "tf32", name, METHOD_NAMES
    config = resolve(config)
    with settled():
        use_engine(config.engine)
        learner = build(config, prepare(config))
        jax.clear_caches()  # a product of the same shapes would not be traced again
        precisions.clear()
        learner.score(learner.params)
    # Towers are the encoder's, which goes by clip.dtype.
    assert set(precisions) - (FULL if of_towers else set()) == {precision_of("tf32")}


def test_a_program_that_simulates_goes_on_in_full_float32(make_bank, precisions):
    """What it calls next is not of the run: the engine, or a model that it predicts by."""
    rows = Rows(jnp.zeros(2, jnp.int32), jnp.ones((2, 3)))
    score, keys = make_scores(lambda params, frozen, rows: rows.features @ params), jnp.ones((3, 4))
    simulate(config_for(make_bank(), **{"engine.precision": "tf32", "methods": ("cachefl",)}))
    precisions.clear()
    score(keys, (), rows)
    assert_full(precisions)
    assert jax.config.jax_default_matmul_precision is None


def test_a_sweep_has_one_precision(make_bank, tmp_path):
    changes = [{"engine.precision": "float32"}, {"engine.precision": "tf32"}]
    configs = [config_for(make_bank(), **each) for each in changes]
    with pytest.raises(UsageError, match="engine.precision: got float32, tf32"):
        run_points(configs, changes, tmp_path / "sweep", [], side_by_side=False)
