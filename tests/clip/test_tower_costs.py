"""What the whole model costs: published sizes, and the products of matrices that its towers consist of."""

import json

import pytest
from flax import nnx
from tower_formulas import transformer_flops

from cachefl_jax.clip import CLIP, SigLIP, costs, load_clip, tower_costs
from cachefl_jax.clip.architecture import DEFAULTS, CLIPConfig
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.federation import tree_bytes

pytestmark = pytest.mark.quick

WIDE = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 2, "num_attention_heads": 3}
MODELS = {"clip": CLIP, "siglip": SigLIP}


def wide(kind: str) -> CLIPConfig:
    """Wide enough for the products to outweigh the rest, and quick to compile."""
    default = DEFAULTS[kind]
    vision = default.vision_config._replace(**WIDE, image_size=64, patch_size=16)
    text = default.text_config._replace(**WIDE, vocab_size=50, max_position_embeddings=32)
    return default._replace(vision_config=vision, text_config=text, projection_dim=128)


@pytest.fixture(scope="module")
def pocket():
    """The costs of the pocket CLIP by its directory."""
    return tower_costs(POCKET)


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"model_type": "clip"}, 151_277_313),  # openai/clip-vit-base-patch32
        ({"model_type": "clip", "vision_config": {"patch_size": 16}}, 149_620_737),
        ({"model_type": "siglip"}, 203_155_970),  # google/siglip-base-patch16-224
    ],
)
def test_published_checkpoints_have_their_published_number_of_parameters(tmp_path, monkeypatch, fields, parameters):
    """From the config alone: there are no weights in the directory. Arithmetic, the most of the time, is not asked."""
    monkeypatch.setattr(costs, "flops", lambda *_: 0.0)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    found = tower_costs(tmp_path)
    assert found.whole.parameters == parameters
    assert found.whole.bytes == 4 * parameters
    scales = 1 if fields["model_type"] == "clip" else 2
    assert found.image.parameters + found.text.parameters + scales == parameters


def test_a_model_costs_what_its_directory_does_and_half_the_bytes_in_half_the_width(pocket):
    model = load_clip(POCKET)
    assert tower_costs(model) == pocket
    assert pocket.whole.bytes == tree_bytes(nnx.state(model))
    half = tower_costs(load_clip(POCKET, "bfloat16")).whole
    assert half.parameters == pocket.whole.parameters
    assert 0.5 < half.bytes / pocket.whole.bytes < 0.51  # norms stay float32


@pytest.mark.parametrize("kind", MODELS)
def test_flops_are_those_of_the_products_within_three_hundredths(kind):
    model = nnx.eval_shape(lambda: MODELS[kind](wide(kind), rngs=nnx.Rngs(0)))
    both = tower_costs(model)
    for tower in ("image", "text"):
        found, (forward, backward) = getattr(both, tower), transformer_flops(model, tower)
        print(f"{kind} {tower}: {found.forward_flops / forward:.4f} and {found.backward_flops / backward:.4f}")
        assert found.forward_flops == pytest.approx(forward, rel=0.03)
        assert found.backward_flops == pytest.approx(backward, rel=0.03)


def test_the_whole_is_both_towers(pocket):
    assert pocket.whole.forward_flops == pocket.image.forward_flops + pocket.text.forward_flops
    assert pocket.whole.backward_flops == pocket.image.backward_flops + pocket.text.backward_flops
