"""Pipelines in the shapes of released ones, of random weights, are drawn and stored as the embedded one is."""

import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from synthesis.pipelines import SHAPES, save, stable_diffusion, t5_tokenizer

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, generate, obtain, pipeline, request_of
from cachefl_jax.synthesis.verify import verify

NAMES = ("two", "seven")
HOW = Drawing(2, 3.0, 64, 64, batch_size=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(shape) -> a folder."""
    root, made = tmp_path_factory.mktemp("pipelines"), {}

    def make(shape: str) -> pathlib.Path:
        if shape not in made:
            with pipeline.quiet():
                made[shape] = save(shape, root / shape)
        return made[shape]

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_and_stored_by_its_own_pipeline(saved, tmp_path, shape):
    asked = request_of(str(saved(shape)), NAMES, ("the digit {}.",), 2, HOW, seed=0)
    made = obtain(asked, tmp_path)
    images = [np.asarray(image) for image in made.images]
    assert [image.shape for image in images] == [(64, 64, 3)] * 4
    assert len({image.tobytes() for image in images}) == 4
    index = json.loads((saved(shape) / "model_index.json").read_text())
    assert made.manifest["scheduler"] == index["scheduler"][1]
    (folder,) = (tmp_path / "synthetic").iterdir()
    report = verify(folder, redraw=1)
    assert (report.images, report.drawn, report.equal, report.faults) == (4, 3, 3, [])


@pytest.mark.parametrize("shape", ["sd15", "lcm", "flux"])
def test_guidance_and_prompt_count_and_none_is_allowed(saved, shape):
    def draw(guidance: float, prompt: str = "the digit two.") -> np.ndarray:
        return generate(str(saved(shape)), [prompt], [0], HOW._replace(guidance=guidance))

    assert (draw(0.0) != draw(9.0)).any()
    assert (draw(9.0) != draw(9.0, "the digit seven.")).any()


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_half_precision_draws_nearly_the_same(saved, shape):
    whole = generate(str(saved(shape)), ["the digit two."], [3], HOW)
    half = generate(str(saved(shape)), ["the digit two."], [3], HOW._replace(dtype="bfloat16"))
    difference = np.abs(whole.astype(int) - half)
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize("shape", ["sdxl", "sd3", "flux"])
def test_each_tokenizer_has_its_own_length(saved, shape):
    """16 tokens are what the CLIPs take here; the T5s read letter by letter, 256 or 512 of them."""
    long = "the digit two, the digit two, the digit two, the digit two."
    with pytest.raises(UsageError, match=r"synthesis\.prompts.*at most 16 tokens"):
        generate(str(saved(shape)), [long], [0], HOW)
    drawer = pipeline.load_pipeline(saved(shape))
    limits = [most for _, most in pipeline.token_limits(drawer)]
    assert limits == {"sdxl": [16, 16], "sd3": [16, 16, 256], "flux": [16, 512]}[shape]


def test_a_second_tokenizer_alone_may_be_too_short(saved):
    drawer = pipeline.load_pipeline(saved("sdxl"))
    drawer.tokenizer.model_max_length = 77
    with pytest.raises(UsageError, match="at most 16 tokens"):
        pipeline.check_lengths(drawer, ["the digit two, the digit two, the digit two, the digit two."])
    only = SimpleNamespace(components={"tokenizer": t5_tokenizer()}, __call__=lambda prompt, max_sequence_length=9: 0)
    assert [most for _, most in pipeline.token_limits(only)] == [9]


def test_large_pipelines_decode_one_image_at_a_time_and_larger_ones_in_tiles(saved, monkeypatch):
    drawer = pipeline.load_pipeline(saved("sd15"))
    pipeline.spare_memory(drawer, 0)
    assert (drawer.vae.use_slicing, drawer.vae.use_tiling) == (False, False)
    monkeypatch.setattr(pipeline, "SMALL", 0)
    pipeline.spare_memory(drawer, 1024 * 1024)
    assert (drawer.vae.use_slicing, drawer.vae.use_tiling) == (True, False)
    pipeline.spare_memory(drawer, 2048 * 1024)
    assert drawer.vae.use_tiling
    sliced = generate(str(saved("sd15")), ["the digit two.", "two"], [0, 1], HOW)
    monkeypatch.undo()
    whole = generate(str(saved("sd15")), ["the digit two.", "two"], [0, 1], HOW)
    assert np.abs(sliced.astype(int) - whole).max() <= 1


def test_a_size_that_the_pipeline_refuses_or_rounds_is_told(saved):
    with pytest.raises(UsageError, match=r"synthesis\.pipeline: got .*60 x 64.*divisible by 8"):
        generate(str(saved("sd15")), ["the digit two."], [0], HOW._replace(height=60))
    with pytest.raises(UsageError, match=r"synthesis\.width: got 62; .*take \d+"):
        generate(str(saved("flux")), ["the digit two."], [0], HOW._replace(width=62))


def test_a_batch_that_memory_does_not_hold_is_told(saved, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.__call__", full)
    monkeypatch.setattr(pipeline, "ARGUMENTS", set())
    with pytest.raises(UsageError, match=r"synthesis\.batch_size: got 1; .*lower it"):
        generate(str(saved("sd15")), ["the digit two."], [0], HOW._replace(height=0, width=0))


def test_numbers_that_are_none_are_no_image(saved, tmp_path):
    """As half precision gives where it overflows."""
    with pipeline.quiet():
        broken = stable_diffusion()
        torch.nn.init.constant_(broken.vae.decoder.conv_out.bias, float("nan"))
        broken.save_pretrained(tmp_path / "broken", safe_serialization=True)
    with pytest.raises(UsageError, match=r"no image, from 9 seeds.*another pipeline or synthesis\.dtype"):
        generate(str(tmp_path / "broken"), ["the digit two."], [0], HOW)


def test_a_pipeline_that_changes_images_is_refused(saved, tmp_path):
    with pipeline.quiet():
        parts = stable_diffusion().components
        changing = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
        changing.save_pretrained(tmp_path / "changing", safe_serialization=True)
    with pytest.raises(UsageError, match=r"StableDiffusionImg2ImgPipeline\); allowed: a pipeline that draws images"):
        generate(str(tmp_path / "changing"), ["the digit two."], [0], HOW)
