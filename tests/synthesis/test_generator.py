"""The generator: what it draws, that a seed means an image, and what it refuses."""

import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from cachefl_jax.clip.checkpoint import POCKET as POCKET_CLIP
from cachefl_jax.clip.images import prepare_all, read_preparation
from cachefl_jax.clip.weights import load_clip
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, class_prompts, find_pipeline, generate, image_seeds
from cachefl_jax.synthesis.pipeline import POCKET, load_pipeline, quiet

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the digit {}.", "a picture of the digit {}.", "an image of the number {}.")
STEPS, GUIDANCE = 20, 2.0


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """20 images a digit, in the digits' order."""
    prompts, seeds = class_prompts(DIGITS, TEMPLATES, 20), image_seeds(DIGITS, 20, seed=0)
    return generate("pocket", sum(prompts, ()), sum(seeds, ()), Drawing(STEPS, GUIDANCE))


@pytest.fixture(scope="module")
def image_features(drawn) -> np.ndarray:
    """The pocket CLIP's normalised features of the drawn images, [10, 20, D]."""
    pixels = prepare_all(drawn, read_preparation(POCKET_CLIP))
    features = np.asarray(load_clip(POCKET_CLIP).image_features(jnp.asarray(pixels)))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).reshape(10, 20, -1)


@pytest.fixture(scope="module")
def text_features() -> np.ndarray:
    """The pocket CLIP's class weights: its features of every template, normalised, averaged, normalised, [10, D]."""
    model, tokenizer = load_clip(POCKET_CLIP), CLIPTokenizer.from_pretrained(POCKET_CLIP)
    prompts = sum(class_prompts(DIGITS, TEMPLATES, len(TEMPLATES)), ())
    ids = tokenizer(list(prompts), padding="max_length", max_length=16, return_tensors="np").input_ids
    features = np.asarray(model.text_features(jnp.asarray(ids)))
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = features.reshape(10, len(TEMPLATES), -1).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_the_pocket_clip_sees_the_digit_that_was_asked_for(image_features, text_features):
    guesses = np.argmax(image_features @ text_features.T, axis=-1)
    right = guesses == np.arange(10)[:, None]
    assert right.mean() >= 0.9
    assert right.mean(axis=1).min() >= 0.75, "one digit is drawn badly"


def test_images_of_one_digit_differ(drawn):
    """The images become the cache's keys, so twenty copies of one drawing would be worth one key.

    The type that the pocket generator learnt from spreads by 40 to 50 grey levels of 255.
    """
    spread = drawn.reshape(10, 20, 32, 32, 3).astype(float).std(axis=1).mean(axis=(1, 2, 3))
    assert spread.min() > 20


def test_the_digit_is_light_on_dark_and_fills_the_field(drawn):
    assert drawn.shape == (200, 32, 32, 3)
    assert drawn.dtype == np.uint8
    assert (drawn.max(axis=(1, 2, 3)) > 150).all()
    assert np.median(drawn) < 60


def test_an_image_does_not_depend_on_its_batch(drawn):
    prompts, seeds = class_prompts(DIGITS, TEMPLATES, 20), image_seeds(DIGITS, 20, seed=0)
    rows = [3, 77, 150]
    asked = [sum(prompts, ())[row] for row in rows], [sum(seeds, ())[row] for row in rows]
    alone = generate("pocket", *asked, Drawing(STEPS, GUIDANCE, batch_size=1))
    difference = np.abs(alone.astype(int) - drawn[rows])
    assert difference.max() <= 2  # of 255: sums are taken in another order


def test_the_same_seeds_draw_the_same_images_and_others_do_not():
    prompts = ["a photo of the digit five."] * 2
    first = generate("pocket", prompts, [1, 2], Drawing(4, GUIDANCE))
    np.testing.assert_array_equal(first, generate("pocket", prompts, [1, 2], Drawing(4, GUIDANCE)))
    assert np.abs(first[0].astype(int) - first[1]).mean() > 5


def test_the_prompt_decides_what_a_seed_becomes():
    one, eight = generate("pocket", ["the digit one.", "the digit eight."], [7, 7], Drawing(10, GUIDANCE))
    assert np.abs(one.astype(int) - eight).mean() > 10


def test_the_size_can_be_asked_for():
    assert generate("pocket", ["the digit two."], [0], Drawing(1, 1.0, 40, 48)).shape == (1, 40, 48, 3)


def test_the_embedded_pipeline_is_a_stock_one_and_small():
    with quiet():
        assert type(load_pipeline(find_pipeline("pocket"))).__name__ == "StableDiffusionPipeline"
    assert sum(path.stat().st_size for path in POCKET.rglob("*") if path.is_file()) <= 15_000_000
    assert {path.suffix for path in POCKET.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".txt"}


def test_the_bar_is_the_only_thing_on_the_terminal(capfd):
    generate("pocket", ["the digit two."], [0], Drawing(1, 1.0))
    written = capfd.readouterr()
    assert written.out == ""
    assert written.err == ""


def test_importing_the_package_imports_no_torch():
    check = "import sys, cachefl_jax.synthesis; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize("name", ["/no/such/folder", "./nor/this", "neither_this"])
def test_a_missing_directory_is_refused(name):
    with pytest.raises(UsageError, match=r"synthesis\.pipeline.*no such directory"):
        generate(name, ["the digit two."], [0], Drawing(1, 1.0))


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"synthesis\.pipeline.*nobody/nothing.*from the hub"):
        find_pipeline("nobody/nothing")


def test_a_directory_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"model_index\.json"):
        find_pipeline(str(tmp_path))


@pytest.fixture
def copied(tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(POCKET, tmp_path / "copy"))


def test_broken_weights_are_refused(copied):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"synthesis\.pipeline.*download it again"):
        generate(str(copied), ["the digit two."], [0], Drawing(1, 1.0))


def test_pickled_weights_are_refused(copied):
    """A sound .bin file would load, but only by unpickling."""
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UsageError, match=r"allowed: a whole pipeline with its weights in safetensors"):
        generate(str(copied), ["the digit two."], [0], Drawing(1, 1.0))


def test_a_variant_alone_is_refused_with_the_names_that_it_needs(copied):
    """What is told is done: then it draws."""
    for weights in copied.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    with pytest.raises(UsageError, match=r"text_encoder/model.fp16.safetensors only\).*rename it to model.safetensors"):
        generate(str(copied), ["the digit two."], [0], Drawing(1, 1.0))
    for weights in copied.glob("*/*.safetensors"):
        weights.rename(weights.with_name(weights.name.replace(".fp16", "")))
    assert generate(str(copied), ["the digit two."], [0], Drawing(1, 1.0)).shape == (1, 32, 32, 3)


def test_a_prompt_that_would_be_cut_off_is_refused():
    prompt = "a photo of the digit, of the digit, of the digit, of the digit two."
    with pytest.raises(UsageError, match=r"synthesis\.prompts.*at most 16 tokens"):
        generate("pocket", [prompt], [0], Drawing(1, 1.0))


def test_no_steps_are_refused():
    with pytest.raises(UsageError, match=r"synthesis\.steps"):
        generate("pocket", ["the digit two."], [0], Drawing(0, 1.0))
