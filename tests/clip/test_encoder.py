"""Images and class names to unit features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cachefl_jax.clip import encode_classes, encode_images, image_part, load_encoder
from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.model import compiled_features
from cachefl_jax.clip.open_clip import ResNetCLIP
from cachefl_jax.clip.resnet import ResNetShape
from cachefl_jax.clip.siglip import SigLIP
from cachefl_jax.errors import UsageError
from experiments.pretrain import rendered_type


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("pocket")


def test_features_are_unit_rows_and_do_not_depend_on_the_batch(encoder):
    images = np.random.default_rng(0).integers(0, 256, (150, 20, 20, 3), dtype=np.uint8)
    together = encode_images(encoder, images)
    assert together.shape == (150, encoder.model.visual_projection.out_features)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together[140:143], encode_images(encoder, images[140:143]), atol=1e-6)


def test_class_weights_average_the_templates_unit_features(encoder):
    names, templates = ("three", "seven"), ("a photo of the digit {}.", "the digit {}.")
    single = [encode_classes(encoder, names, (template,)) for template in templates]
    mean = (single[0] + single[1]) / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(encode_classes(encoder, names, templates), expected, atol=1e-6)


def test_the_pocket_clip_reads_rendered_type_by_its_prompts(encoder):
    """Type of another seed than it was trained on: the pre-training has worked, and text and image meet."""
    data = rendered_type.render(300, seed=12345, digit_share=1.0, coarsest=16)
    weights = encode_classes(encoder, rendered_type.DIGITS, ("a photo of the digit {}.",))
    guesses = (encode_images(encoder, data.images) @ weights.T).argmax(axis=1)
    assert (guesses == data.glyphs).mean() > 0.95


def test_underscores_of_folder_names_read_as_spaces(encoder):
    spaced, scored = (encode_classes(encoder, (name,), ("{}",)) for name in ("digit three", "digit_three"))
    assert np.array_equal(spaced, scored)


@pytest.mark.parametrize("template", ["no place", "{} and {}", "{name}"])
def test_a_template_without_exactly_one_place_is_refused(encoder, template):
    with pytest.raises(UsageError, match=r"clip.templates: got .*exactly one \{\}"):
        encode_classes(encoder, ("three",), (template,))


def test_a_tokenizer_of_another_model_is_refused(encoder):
    foreign = encoder._replace(tokenizer=lambda texts: np.full((len(texts), 8), 10**6, np.int32))
    with pytest.raises(UsageError, match="its tokenizer gives token 1000000"):
        encode_classes(foreign, ["three"], ["{}"])


def test_images_are_encoded_alike_without_the_text_tower(encoder):
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)
    part = image_part(encoder)
    np.testing.assert_array_equal(encode_images(part, images), encode_images(encoder, images))
    assert part.byte_count < 0.8 * encoder.byte_count
    assert encode_classes(encoder, ["three"], ["{}"]).shape == (1, 128)  # the whole one still has it


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = VisionConfig(image_size=64, patch_size=16, **SMALL)
TEXT = TextConfig(vocab_size=50, max_position_embeddings=16, **SMALL)


@pytest.mark.parametrize(
    "model",
    [
        lambda rngs: SigLIP(CLIPConfig("siglip", VISION, TEXT, 32), rngs=rngs),
        lambda rngs: ResNetCLIP(ResNetShape((1, 1, 1, 1), 8, 4, 64, 16), TEXT, rngs=rngs),
    ],
    ids=["SigLIP", "ResNet"],
)
def test_every_kind_of_model_does_without_its_text_tower(encoder, model):
    graph, shapes = nnx.split(nnx.eval_shape(lambda: model(nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0, 0.1, leaf.shape), leaf.dtype), shapes)
    whole = nnx.merge(graph, weights)
    part, pixels = image_part(encoder._replace(model=whole)).model, rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
    features, expected = (np.asarray(compiled_features(model)[0](pixels)) for model in (part, whole))
    np.testing.assert_array_equal(features, expected)
    assert np.isfinite(features).all()
    assert hasattr(whole, "text_model")
    assert not hasattr(part, "text_model")


def relabelled(encoder, **changes):
    """The encoder with another end token, as a config that says so would give it."""
    model = nnx.merge(*nnx.split(encoder.model))
    for name, value in changes.items():
        setattr(model.text_model, name, value)
    return encoder._replace(model=model)


@pytest.mark.parametrize("config_says", [49407, 5, 0])
def test_an_end_token_that_the_tokenizer_does_not_write_is_refused(encoder, config_says):
    """Every text would be read at its first token, and all class weights agree."""
    foreign = relabelled(encoder, eos_token_id=config_says)
    with pytest.raises(
        UsageError, match=rf"text_config.eos_token_id: got {config_says}\b.*allowed: {encoder.tokenizer.end}, "
    ):
        encode_classes(foreign, ["three", "seven"], ["{}"])


def test_an_end_token_that_stands_elsewhere_in_every_text_is_refused(encoder):
    word = int(encoder.tokenizer(["digit"])[0, 1])
    with pytest.raises(UsageError, match=rf"text_config.eos_token_id: got {word} .*read at token {word}"):
        encode_classes(relabelled(encoder, eos_token_id=word), ["three", "seven"], ["the digit {}"])


def test_the_largest_token_as_the_end_holds_only_where_it_is_the_end(encoder, monkeypatch):
    """Configs written before 2023 say 2, which stands for the largest token of a text."""
    legacy, words = relabelled(encoder, eos_token_id=2), encoder.tokenizer
    np.testing.assert_array_equal(encode_classes(legacy, ["three"], ["{}"]), encode_classes(encoder, ["three"], ["{}"]))

    class Lower:
        """Its end token is not the largest: the one that begins a text is."""

        end = 600

        def __call__(self, texts):
            ids = words(texts)
            return np.where(ids == words.end, self.end, ids)

    with pytest.raises(UsageError, match="eos_token_id: got 2, the largest token of a text .*token 602.*allowed: 600"):
        encode_classes(legacy._replace(tokenizer=Lower()), ["three"], ["{}"])
    monkeypatch.setattr("cachefl_jax.clip.encoder.is_open_clip", lambda directory: True)  # without such a field
    with pytest.raises(UsageError, match="clip.checkpoint: got pocket .texts end at their largest token.*allowed: 600"):
        encode_classes(legacy._replace(tokenizer=Lower()), ["three"], ["{}"])


def test_every_class_whose_text_would_be_cut_off_is_counted_and_named(encoder):
    """What would be left is the same for all of them."""
    names = [f"{'wing ' * 20}{number}" for number in range(5)] + ["three"]
    line = 'clip.templates: got 10 of 12 texts .*"a wing.*"the wing.* and 2 more; allowed: at most 16'
    with pytest.raises(UsageError, match=line) as told:
        encode_classes(encoder, names, ("a {}.", "the {}."))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("names", [("three", "THREE", "seven"), ("digit_three", "digit three", "seven")])
def test_classes_of_the_same_text_are_refused(encoder, names):
    with pytest.raises(UsageError, match=f"classes: got the same texts .* for {names[0]} = {names[1]}; allowed"):
        encode_classes(encoder, names, ("the digit {}.",))


def test_classes_of_equal_weights_are_refused_whatever_the_cause(encoder):
    """Here the text tower has lost its embeddings."""
    blank = relabelled(encoder)
    blank.model.text_model.embeddings.token_embedding.embedding[...] *= 0
    with pytest.raises(UsageError, match="classes: got equal text features for three = seven, seven = nine; allowed"):
        encode_classes(blank, ("three", "seven", "nine"), ("the digit {}.",))
