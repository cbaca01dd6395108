"""How the pocket models are made: the type that they learn from, its captions, and a few real steps of the CLIP."""

import jax
import numpy as np
import pytest
from flax import nnx

from cachefl_jax.clip import CLIP, load_clip, save_clip
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.images import prepare_all, read_preparation
from experiments.pretrain import pocket_clip, rendered_type, tokenizer


@pytest.fixture(scope="module")
def data():
    return rendered_type.render(512, seed=0)


def test_type_is_drawn_in_many_fonts_and_is_seeded(data):
    assert len(rendered_type.fonts()) >= 20
    assert data.images.shape == (512, 32, 32)
    again = rendered_type.render(512, seed=0)
    assert np.array_equal(data.images, again.images)
    assert not np.array_equal(data.images, rendered_type.render(512, seed=1).images)


def test_every_image_shows_something(data):
    assert data.images.reshape(512, -1).std(axis=1).min() > 5


def test_captions_name_the_character_and_only_styles_that_it_has(data):
    captions = rendered_type.captions(np.random.default_rng(0), data)
    for caption, glyph, styles in zip(captions, data.glyphs, data.styles, strict=True):
        named = [style for style in rendered_type.STYLES if style in caption]
        assert all(styles[rendered_type.STYLES.index(style)] for style in named)
        assert ("digit" in caption or "number" in caption) == (glyph < 10)
    assert len(set(captions)) > 200


def test_the_tokenizer_has_a_token_for_every_word_of_the_captions(tmp_path):
    vocabulary = tokenizer.build(tmp_path)
    for caption in tokenizer.every_caption()[::50]:
        words = caption.lower().replace(".", " .").split()
        assert vocabulary.tokenize(caption) == [f"{word}</w>" for word in words]
    shipped = (POCKET / "vocab.json").read_bytes()
    assert (tmp_path / "vocab.json").read_bytes() == shipped


def test_pretraining_learns_and_gives_the_same_weights_again(data, tmp_path):
    vocabulary, losses = tokenizer.build(tmp_path), []
    pixels, config = prepare_all(data.images, read_preparation(POCKET)), pocket_clip.configuration(vocabulary)
    for name in ("first", "second"):
        model = CLIP(config, rngs=nnx.Rngs(0))
        losses.append([pocket_clip.train(model, data, pixels, vocabulary, epochs, seed=0) for epochs in (1, 4)])
        save_clip(model, config, tmp_path / name)
    assert losses[0] == losses[1]
    assert losses[0][1] < losses[0][0] - 0.2
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    load_clip(tmp_path / "first")


def test_a_kept_text_tower_stays_as_it_is_while_the_image_tower_learns(data, tmp_path):
    vocabulary = tokenizer.build(tmp_path)
    pixels, config = prepare_all(data.images, read_preparation(POCKET)), pocket_clip.configuration(vocabulary)
    model = CLIP(config, rngs=nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    pocket_clip.train(model, data, pixels, vocabulary, 1, seed=0, keep_text=True)
    after = nnx.to_pure_dict(nnx.state(model))
    for part in before:
        same = jax.tree.map(np.array_equal, before[part], after[part])
        assert all(jax.tree.leaves(same)) == (part not in pocket_clip.IMAGE_SIDE)


def test_the_coarsest_resolution_is_kept():
    """A character seen at 8 pixels a side has less fine detail than one seen at 32: neighbouring pixels differ less."""
    coarse, sharp = (rendered_type.render(256, seed=0, coarsest=pixels).images.astype(float) for pixels in (8, 32))
    assert np.abs(np.diff(coarse, axis=2)).mean() < 0.9 * np.abs(np.diff(sharp, axis=2)).mean()
