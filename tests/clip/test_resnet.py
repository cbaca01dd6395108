"""The residual image towers: the same numbers as in torch, OpenAI's sizes, and costs that XLA counts too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from open_clip_reference import RESNET, inputs, reference, save, share, small_config
from tower_formulas import resnet_costs

from cachefl_jax.clip import tower_costs
from cachefl_jax.clip.architecture import TextConfig
from cachefl_jax.clip.open_clip import ResNetCLIP, load_open_clip
from cachefl_jax.clip.resnet import ResNetShape, ResNetTower

pytestmark = pytest.mark.quick

SHAPES = {
    "RN50": ResNetShape((3, 4, 6, 3), width=64, heads=32, image_size=224, features=1024),
    "RN101": ResNetShape((3, 4, 23, 3), width=64, heads=32, image_size=224, features=512),
    "RN50x4": ResNetShape((4, 6, 10, 6), width=80, heads=40, image_size=288, features=640),
}
TOWERS = {
    "one position": {"image_size": 32},
    "four positions": {},
    "wide heads": {"layers": [1, 1, 2, 1], "head_width": 128},
    "wide and deep": {"layers": [2, 3, 2, 2], "width": 12, "head_width": 64, "image_size": 96},
}


@nnx.jit
def image_features(model, pixels):
    return model.image_features(pixels)


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS.keys())
def test_image_features_equal_those_of_torch(tmp_path, changes):
    config = small_config(RESNET | changes)
    theirs = reference(config)
    save(theirs, config, tmp_path)
    pixels, _ = inputs(config)
    expected = theirs.image_features(pixels)
    assert expected.std(axis=0).mean() > 0.1, "features that hardly differ would be equal too easily"
    assert share(image_features(load_open_clip(tmp_path), jnp.asarray(pixels)), expected) < 1e-5


def test_an_images_features_do_not_depend_on_its_batch(tmp_path):
    config = small_config()
    save(reference(config), config, tmp_path)
    model, pixels = load_open_clip(tmp_path), jnp.asarray(inputs(config)[0])
    assert share(image_features(model, pixels[1:2]), np.asarray(image_features(model, pixels))[1:2]) < 1e-6


def test_all_products_are_in_bfloat16_and_all_statistics_in_float32():
    shape = ResNetShape((1, 2, 1, 1), width=8, heads=8, image_size=64, features=24)
    graph, state = nnx.split(nnx.eval_shape(lambda: ResNetTower(shape, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)))
    statistics = jax.tree.leaves(nnx.filter_state(state, nnx.BatchStat))
    assert {leaf.dtype for leaf in statistics} == {jnp.dtype("float32")}
    pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    program = jax.make_jaxpr(lambda state, pixels: nnx.merge(graph, state)(pixels))(state, pixels)
    products = [step for step in program.eqns if step.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(products) > 20
    assert all(operand.aval.dtype == jnp.bfloat16 for step in products for operand in step.invars)


def costs_of(shape: ResNetShape):
    text = TextConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    return tower_costs(nnx.eval_shape(lambda: ResNetCLIP(shape, text, rngs=nnx.Rngs(0)))).image


@pytest.mark.parametrize(("name", "millions"), [("RN50", 38.32), ("RN101", 56.26), ("RN50x4", 87.14)])
def test_the_towers_have_as_many_parameters_as_openais(name, millions):
    parameters, *_ = resnet_costs(SHAPES[name])
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)
    tower = nnx.eval_shape(lambda: ResNetTower(SHAPES[name], rngs=nnx.Rngs(0)))
    assert parameters == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(tower, nnx.Param)))


@pytest.mark.parametrize("size", [64, 96])
def test_flops_are_those_of_the_products_within_a_hundredth(size):
    shape = ResNetShape((1, 2, 1, 1), width=64, heads=8, image_size=size, features=64)
    costs, (parameters, forward, backward) = costs_of(shape), resnet_costs(shape)
    assert (costs.parameters, costs.bytes) == (parameters, 4 * parameters)
    print(f"{costs.forward_flops / forward:.4f} and {costs.backward_flops / backward:.4f}")
    assert costs.forward_flops == pytest.approx(forward, rel=0.01)
    assert costs.backward_flops == pytest.approx(backward, rel=0.01)
