"""How the pocket models are made: the type that they learn from, its captions, and a few real steps of the CLIP."""

import jax
import numpy as np
import pytest
from flax import nnx

from cachefl_jax.clip import CLIP, load_clip, save_clip
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.images import prepare_all, read_preparation
from experiments.pretrain import pocket_clip, rendered_type, tokenizer

pytestmark = pytest.mark.quick


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


@pytest.fixture(scope="module")
def start(data, tmp_path_factory):
    """(() -> a model before its first step, its config, what `train` learns from): 128 images by 32."""
    vocabulary = tokenizer.build(tmp_path_factory.mktemp("vocabulary"))
    config = pocket_clip.configuration(vocabulary)
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1  # of 4 and 2: compiled sooner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pocket_clip, "BATCH", 32)
        few = rendered_type.RenderedType(*(array[:128] for array in data))
        yield (
            lambda: CLIP(config, rngs=nnx.Rngs(0)),
            config,
            (few, prepare_all(few.images, read_preparation(POCKET)), vocabulary),
        )


def test_pretraining_learns_and_gives_the_same_weights_again(start, tmp_path):
    make, config, source = start
    models, losses = [make(), make()], []
    for name, model in zip(("first", "second"), models, strict=True):
        losses.append(pocket_clip.train(model, *source, 1, seed=0))
        save_clip(model, config, tmp_path / name)
    assert losses[0] == losses[1]
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    load_clip(tmp_path / "first")
    assert pocket_clip.train(models[0], *source, 8, seed=0) < losses[0] - 0.2


def test_a_kept_text_tower_stays_as_it_is_while_the_image_tower_learns(start):
    make, _, source = start
    model = make()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    pocket_clip.train(model, *source, 1, seed=0, keep_text=True)
    after = nnx.to_pure_dict(nnx.state(model))
    for part in before:
        same = jax.tree.map(np.array_equal, before[part], after[part])
        assert all(jax.tree.leaves(same)) == (part not in pocket_clip.IMAGE_SIDE)


def test_the_coarsest_resolution_is_kept():
    """A character seen at 8 pixels a side has less fine detail than one seen at 32: neighbouring pixels differ less."""
    coarse, sharp = (rendered_type.render(256, seed=0, coarsest=pixels).images.astype(float) for pixels in (8, 32))
    assert np.abs(np.diff(coarse, axis=2)).mean() < 0.9 * np.abs(np.diff(sharp, axis=2)).mean()
