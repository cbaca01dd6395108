"""What the whole model costs: published sizes, and the products of matrices that its towers consist of."""

import json

import pytest
from flax import nnx
from tower_formulas import transformer_flops

from cachefl_jax.clip import CLIP, SigLIP, load_clip, tower_costs
from cachefl_jax.clip.architecture import DEFAULTS, CLIPConfig
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.federation import tree_bytes

WIDE = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 2, "num_attention_heads": 3}
MODELS = {"clip": CLIP, "siglip": SigLIP}


def wide(kind: str) -> CLIPConfig:
    """Wide enough for the products to outweigh the rest, and quick to compile."""
    default = DEFAULTS[kind]
    vision = default.vision_config._replace(**WIDE, image_size=64, patch_size=16)
    text = default.text_config._replace(**WIDE, vocab_size=50, max_position_embeddings=32)
    return default._replace(vision_config=vision, text_config=text, projection_dim=128)


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"model_type": "clip"}, 151_277_313),  # openai/clip-vit-base-patch32
        ({"model_type": "clip", "vision_config": {"patch_size": 16}}, 149_620_737),
        ({"model_type": "siglip"}, 203_155_970),  # google/siglip-base-patch16-224
    ],
)
def test_published_checkpoints_have_their_published_number_of_parameters(tmp_path, fields, parameters):
    """From the config alone: there are no weights in the directory."""
    (tmp_path / "config.json").write_text(json.dumps(fields))
    costs = tower_costs(tmp_path)
    assert costs.whole.parameters == parameters
    assert costs.whole.bytes == 4 * parameters
    scales = 1 if fields["model_type"] == "clip" else 2
    assert costs.image.parameters + costs.text.parameters + scales == parameters


def test_a_model_costs_what_its_directory_does_and_half_the_bytes_in_half_the_width():
    model = load_clip(POCKET)
    assert tower_costs(model) == tower_costs(POCKET)
    assert tower_costs(model).whole.bytes == tree_bytes(nnx.state(model))
    half = tower_costs(load_clip(POCKET, "bfloat16")).whole
    assert half.parameters == tower_costs(model).whole.parameters
    assert 0.5 < half.bytes / tower_costs(model).whole.bytes < 0.51  # norms stay float32


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tower", ["image", "text"])
def test_flops_are_those_of_the_products_within_three_hundredths(kind, tower):
    model = nnx.eval_shape(lambda: MODELS[kind](wide(kind), rngs=nnx.Rngs(0)))
    costs, (forward, backward) = getattr(tower_costs(model), tower), transformer_flops(model, tower)
    print(f"{kind} {tower}: {costs.forward_flops / forward:.4f} and {costs.backward_flops / backward:.4f}")
    assert costs.forward_flops == pytest.approx(forward, rel=0.03)
    assert costs.backward_flops == pytest.approx(backward, rel=0.03)


def test_the_whole_is_both_towers():
    costs = tower_costs(POCKET)
    assert costs.whole.forward_flops == costs.image.forward_flops + costs.text.forward_flops
    assert costs.whole.backward_flops == costs.image.backward_flops + costs.text.backward_flops
