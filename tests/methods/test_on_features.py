"""Methods on frozen features: training against a PyTorch loop, gradients, what travels, and what is refused."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_methods
from safetensors import safe_open
from torch_methods import LOGITS, Held, Training, World

from cachefl_jax import simulate
from cachefl_jax.config import changed, default, lookup, resolve
from cachefl_jax.config.components import own_fields
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan, everybody, make_round
from cachefl_jax.federation import prepare as prepare_problem
from cachefl_jax.methods import Rows, find_method
from cachefl_jax.methods.method import training_loss
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points

pytestmark = pytest.mark.quick

NAMES = tuple(LOGITS)
ROUNDS, BATCH, CLIENTS, CLASSES, WIDTH, PER_CLASS = 3, 4, 4, 4, 8, 2
# (SGD's rate, AdamW's), at which the params move a thousand times as far as they may be off.
RATES = {
    "cache_values": (0.05, 0.01), "cache_low_rank": (0.3, 0.02), "cache_vector": (0.05, 0.02),
    "cache_channels": (0.01, 0.01), "cache_scale": (0.02, 0.01), "linear_probe": (0.02, 0.01), "task_res": (0.1, 0.02),
    "clip_adapter": (0.1, 0.01), "fed_clip": (0.3, 0.01), "lp_plus_plus": (1.0, 0.1), "local_prototypes": (0.02, 0.01),
}  # fmt: skip
FIELDS = {
    "cache_low_rank.rank": 3, "cache_channels.channels": 5, "cache_channels.balance": 0.6, "linear_probe.scale": 12.0,
    "task_res.alpha": 0.7, "clip_adapter.ratio": 0.4, "local_prototypes.scale": 6.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory, make_bank_in):
    """A config of all these methods on a bank of 60 rows, at clients of several sizes."""
    path = make_bank_in(tmp_path_factory.mktemp("bank"), metadata='{"logit_scale": 10}')
    fields = {
        "data.name": "feature_bank", "data.path": str(path), "partition.clients": CLIENTS,
        "partition.concentration": 0.3, "partition.name": "dirichlet", "cache.keys_per_class": PER_CLASS,
        "cache.alpha": 3.0, "cache.beta": 2.0, "rounds": ROUNDS, "eval_every": ROUNDS, "engine.devices": 1,
        "engine.strategy": "scan", "local.shuffle": False, "local.batch_size": BATCH, "local.weight_decay": 0.1,
        "data.validation_share": 0.0, "compare": NAMES, "method": NAMES[0],
    }  # fmt: skip
    return changed(default(), fields | FIELDS)


@pytest.fixture(scope="module")
def inputs(base):
    return prepare(resolve(base))


def world_of(config, inputs, learner) -> World:
    """The server's arrays and the settings, for the reference."""
    keys, text = (torch.tensor(array, dtype=torch.float64) for array in (inputs.server.synthetic, inputs.server.text))
    settings = {name: lookup(config, name) for name in (*FIELDS, "cache.alpha", "cache.beta")}
    drawn = getattr(learner.score.frozen, "projection", None)
    drawn = None if drawn is None else torch.tensor(drawn, dtype=torch.float64)
    return World(keys, text, float(inputs.server.logit_scale), settings, drawn)


def our_params(learner, plan: Plan):
    """After the rounds, by the engine."""
    problem = prepare_problem(learner.federation, plan, jax.tree.map(jnp.asarray, learner.problem))
    one_round, state = make_round(learner.federation, plan), learner.start()
    for _ in range(ROUNDS):
        state, _ = one_round(state, everybody(CLIENTS), problem)
    return jax.device_get(state.params)


def compared(base, inputs, name: str, changes: dict, strategy: str = "scan") -> None:
    """Holds the engine's params to the reference's, 1e-5, after they have moved a thousand times as far."""
    rate = RATES[name][changes["local.optimizer"] == "adamw"]
    config = resolve(changed(base, {"local.learning_rate": rate, **changes}))
    learner = build(config, inputs, name=name)
    world, partition, train = world_of(config, inputs, learner), inputs.partition, inputs.bank.train
    held = Held(train.features, train.labels, np.split(partition.indices, partition.offsets[1:-1]))
    assert len({len(rows) for rows in held.clients}) > 2
    training = Training(config.local.optimizer, rate, BATCH, ROUNDS, config.local.weight_decay)
    start = jax.tree.leaves(learner.params)
    logits = functools.partial(LOGITS[name], world)
    expected = torch_methods.federated(logits, start, held, training)
    found = jax.tree.leaves(our_params(learner, Plan(strategy, block_rows=64)))
    assert len(found) == len(expected)
    for ours, reference, before in zip(found, expected, start, strict=True):
        assert np.abs(reference - before).max() > 1e-2
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", NAMES)
def test_three_rounds_of_small_batches_equal_torch(base, inputs, name, optimizer):
    compared(base, inputs, name, {"local.optimizer": optimizer})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_frozen_projection_equals_torch_and_averages_without_error(base, inputs, optimizer):
    changes = {"local.optimizer": optimizer, "cache_low_rank.projection": "frozen"}
    compared(base, inputs, "cache_low_rank", changes)


@pytest.mark.parametrize("name", [name for name in NAMES if find_method(name).linear])
def test_training_on_coefficients_equals_torch(base, inputs, name):
    compared(base, inputs, name, {"local.optimizer": "sgd"}, strategy="dual")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences_and_a_linear_view_gives_the_logits(base, inputs, name):
    learner = build(resolve(base), inputs, name=name)
    rng, method = np.random.default_rng(0), learner.method
    with jax.enable_x64(True):

        def exact(tree):
            return jax.tree.map(
                lambda leaf: jnp.asarray(leaf, jnp.float64 if np.asarray(leaf).dtype.kind == "f" else None), tree
            )

        train, frozen = inputs.bank.train, exact(learner.score.frozen)
        rows = Rows(jnp.asarray(train.labels[::7]), exact(train.features[::7]))
        # Away from zeros, at which a change of low rank would have no gradient in one factor.
        params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), exact(learner.params))
        direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)

        def along(step):
            moved = jax.tree.map(lambda leaf, way: leaf + step * way, params, direction)
            return training_loss(method)(moved, frozen, rows).mean()

        difference, gradient = (along(1e-6) - along(-1e-6)) / 2e-6, jax.grad(along)(0.0)
        assert abs(gradient) > 1e-3
        np.testing.assert_allclose(gradient, difference, rtol=1e-6)
        assert (method.linear is not None) == (name in ("cache_vector", "linear_probe"))
        if method.linear:
            scores = rows.features @ params.T
            np.testing.assert_allclose(
                method.linear(scores, frozen, rows), method.logits(params, frozen, rows), rtol=1e-12
            )


# 4 bytes of: keys and values; L and P; v; r; g; w; r; U and V; W1, b1, W2 and b2; w and a; p.
SENT = {
    "cache_values": 8 * 8 + 8 * 4, "cache_low_rank": 8 * 3 + 3 * 8, "cache_vector": 4 * 8, "cache_channels": 4 * 5,
    "cache_scale": 8, "linear_probe": 4 * 8, "task_res": 4 * 8, "clip_adapter": 2 * 8 * 2, "fed_clip": 2 * (8 * 8 + 8),
    "lp_plus_plus": 4 * 8 + 4, "local_prototypes": 4 * 8,
}  # fmt: skip


def test_all_in_one_table_send_their_params_and_leave_what_gives_their_accuracy(base, inputs, tmp_path):
    compare = ("zero_shot", "cachefl", *NAMES)
    fields = {"compare": compare, "method": "cachefl", "local.learning_rate": 0.01, "rounds": 1}
    config = changed(base, fields)
    entries = simulate(config, tmp_path / "run").summary["methods"]
    assert list(entries) == list(compare)
    test, numbers = inputs.bank.test, {"alpha": 3.0, "beta": 2.0, "logit_scale": 10.0}
    world = world_of(resolve(config), inputs, build(resolve(config), inputs, name="cache_low_rank"))
    features = torch.tensor(test.features, dtype=torch.float64)
    for name in NAMES:
        assert entries[name]["uplink_bytes_per_client_round"] == 4 * SENT[name], name
        assert entries[name]["downlink_bytes_per_client_round"] == 4 * SENT[name], name
        with safe_open(tmp_path / "run" / "compared" / name / "model.safetensors", "numpy") as file:
            told = {key: json.loads(value) for key, value in file.metadata().items()}
            arrays = {key: torch.tensor(file.get_tensor(key), dtype=torch.float64) for key in file.keys()}  # noqa: SIM118
        if name not in DEPLOYED:
            arrays.pop("text", None)  # the formula takes the world's own
        assert told["method"] == name
        assert told.items() >= {each.name: lookup(config, each.name) for each in find_method(name).fields}.items()
        if name.startswith("cache_"):
            assert told.items() >= numbers.items()
        logits = DEPLOYED.get(name, LOGITS[name])(world, list(arrays.values()), features)
        accuracy = (logits.argmax(dim=1).numpy() == test.labels).mean()
        assert entries[name]["test_accuracy"] == pytest.approx(accuracy), name
        assert accuracy > 0.5


def by_keys(world, arrays, features):
    """CacheFL's formula on the deployed keys and, where they are deployed, texts (by name, so keys come first)."""
    return torch_methods.cached(world, features, *(arrays if len(arrays) == 2 else (*arrays, world.text)))


# Whose deployed arrays are not the params themselves; arrays by name.
DEPLOYED = {
    **dict.fromkeys(("cache_low_rank", "cache_vector", "cache_channels", "cache_scale"), by_keys),
    "clip_adapter": lambda world, arrays, features: torch_methods.clip_adapter(world, arrays, features),
    "fed_clip": lambda world, arrays, features: torch_methods.fed_clip(
        world, [arrays[2], arrays[3], arrays[0], arrays[1]], features
    ),
    "lp_plus_plus": lambda world, arrays, features: features @ arrays[1].T,
}


def test_at_round_0_a_change_from_zeros_changes_nothing(base, inputs):
    config = resolve(changed(base, {"linear_probe.start": "text", "linear_probe.scale": 0.0}))
    rows = Rows(inputs.bank.test.labels, inputs.bank.test.features)

    def logits(name):
        learner = build(config, inputs, name=name)
        return learner.method.logits(learner.params, learner.score.frozen, rows)

    for name in ("cache_values", "cache_low_rank", "cache_vector", "cache_channels", "cache_scale"):
        np.testing.assert_allclose(logits(name), logits("cachefl"), rtol=1e-5, atol=1e-5)
    for name in ("linear_probe", "task_res"):
        np.testing.assert_allclose(logits(name), 10 * inputs.bank.test.features @ inputs.server.text.T, atol=1e-5)


def test_starts_are_the_servers_images_zeros_or_texts(base, inputs):
    def start(name, **fields):
        return build(resolve(changed(base, fields)), inputs, name=name).params

    means = inputs.server.synthetic.mean(axis=1)
    unit = means / np.linalg.norm(means, axis=1)[:, None]
    np.testing.assert_allclose(start("linear_probe"), unit, rtol=1e-6)
    np.testing.assert_allclose(start("local_prototypes"), unit, rtol=1e-6)
    np.testing.assert_array_equal(start("linear_probe", **{"linear_probe.start": "text"}), inputs.server.text)
    assert not start("linear_probe", **{"linear_probe.start": "zero"}).any()
    blend = build(resolve(base), inputs, name="lp_plus_plus")
    deployed, _ = blend.method.artefact(blend.params, blend.score.frozen)
    np.testing.assert_allclose(deployed["prototypes"], means, rtol=1e-5)
    np.testing.assert_allclose(deployed["blending"], 10.0, rtol=1e-5)


def test_random_starts_follow_the_seed_and_are_as_wide_as_pytorchs(base, inputs):
    wide = inputs._replace(server=inputs.server._replace(text=np.ones((4, 256), np.float32)))
    for name, parts in (("clip_adapter", 2), ("fed_clip", 4)):
        method = find_method(name)
        first, again, other = (
            jax.tree.leaves(method.init(wide.server, resolve(changed(base, {"seed": seed})))) for seed in (0, 0, 1)
        )
        assert len(first) == parts
        for one, same, another in zip(first, again, other, strict=True):
            np.testing.assert_array_equal(one, same)
            assert np.abs(one - another).max() > 0
            bound = one.shape[-1] ** -0.5
            assert 0.95 * bound < np.abs(one).max() <= bound


def test_a_step_of_one_never_overshoots_in_lp_plus_plus(base, inputs):
    """The loss of the server's own images falls with every full step in each block by itself, from anywhere."""
    learner = build(resolve(base), inputs, name="lp_plus_plus")
    images, frozen = inputs.server.synthetic, learner.score.frozen
    rows = Rows(np.repeat(np.arange(CLASSES), PER_CLASS), images.reshape(-1, WIDTH))
    loss = jax.jit(lambda params: training_loss(learner.method)(params, frozen, rows).mean())
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 10.0):
        params = jax.tree.map(lambda leaf: leaf + spread * rng.normal(size=leaf.shape), learner.params)  # noqa: B023
        gradient, before = jax.grad(loss)(params), loss(params)
        for block in params._fields:
            step = params._replace(**{block: getattr(params, block) - getattr(gradient, block)})
            promised = (getattr(gradient, block) ** 2).sum() / 2  # the descent lemma's
            assert loss(step) <= before - promised + 1e-5


@pytest.mark.parametrize("name", ["task_res", "clip_adapter", "fed_clip", "lp_plus_plus"])
def test_a_method_that_needs_texts_is_refused_without_them(base, make_bank, name):
    config = changed(base, {"data.path": str(make_bank(text_features=None)), "method": name, "compare": (name,)})
    with pytest.raises(UsageError, match=rf"^method: got {name}; allowed: a method that does without text features"):
        simulate(config)


def test_methods_without_texts_train_on(base, make_bank):
    config = resolve(changed(base, {"data.path": str(make_bank(text_features=None))}))
    inputs = prepare(config)
    rows = Rows(inputs.bank.train.labels, inputs.bank.train.features)
    for name in NAMES:
        if name.startswith(("cache_", "li", "lo")):
            learner = build(config, inputs, name=name)
            gradient = jax.grad(lambda params: training_loss(learner.method)(params, learner.score.frozen, rows).sum())  # noqa: B023
            slopes = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient(learner.params))])
            assert np.isfinite(slopes).all()
            assert np.abs(slopes).max() > 0.1
    config = resolve(changed(base, {"linear_probe.start": "text"}))
    with pytest.raises(UsageError, match=r"linear_probe.start: got text; allowed: zero \| synthetic, as the bank has"):
        build(config, inputs, name="linear_probe")


def test_more_channels_than_features_are_refused(base, inputs):
    config = resolve(changed(base, {"cache_channels.channels": 9}))
    with pytest.raises(UsageError, match=r"cache_channels.channels: got 9; allowed: at most the features' 8"):
        build(config, inputs, name="cache_channels")


def test_traced_fields_share_a_program_and_others_have_their_own(base):
    for name in NAMES:
        config = changed(base, {"method": name, "compare": (name,)})
        for field in own_fields(config):
            if isinstance(field.default, str):
                values = ("trained", "frozen") if "projection" in field.name else ("zero", "text")
            else:
                values = (2, 3) if isinstance(field.default, int) else (0.25, 0.5)
            points = [resolve(changed(config, {field.name: value})) for value in values]
            groups = {group_of(point) for point in prepared_points(points, range(2))}
            assert len(groups) == (1 if field.traced else 2), field.name


def test_their_searches_name_fields_and_values_that_a_config_takes(base):
    for name in (*NAMES, "cachefl"):
        search = find_method(name).search
        assert "local.learning_rate" in {choice.field for choice in search}
        for choice in search:
            for value in choice.values:
                resolve(changed(base, {choice.field: value}))
