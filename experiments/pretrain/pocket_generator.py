"""Trains the pocket generator, a small latent diffusion model of rendered type, and writes it in diffusers' format.

    python -m experiments.pretrain.pocket_generator --clip=cachefl_jax/clip/pocket --output=cachefl_jax/synthesis/pocket

Three parts, one after the other: an autoencoder from 32 x 32 pixels to 8 x 8 latents, the pocket CLIP's text tower
as it is, and a U-Net that denoises latents given the text tower's states. What comes out is a stock
``StableDiffusionPipeline``, so the pocket generator takes the very path that a downloaded model takes. Source:
Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752.

Axis letters: B batch, T tokens, D text width, H W image, h w latents.
"""

import json
import pathlib
import shutil
import time
from typing import NamedTuple

import numpy as np
import torch
from absl import app, flags
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from tqdm import trange
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.pretrain import rendered_type

BATCH = 64
DIGIT_SHARE = 0.6
CAPTION_DROPOUT = 0.1  # classifier-free guidance needs a model that also knows the empty caption
KL_WEIGHT = 5e-4
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 48),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": rendered_type.SIZE,
}
# Attention where it is cheap: at 4 x 4, which is enough to tell one character from another.
DENOISER = {
    "sample_size": rendered_type.SIZE // 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "attention_head_dim": 4,  # diffusers' name for the number of heads
    "norm_num_groups": 8,
}
SCHEDULE = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
}


class Captions(NamedTuple):
    """Every distinct caption once, with the text tower's states; row 0 is the empty caption."""

    rows: dict[str, int]
    states: torch.Tensor  # [captions, T, D]


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """Grey images [B, H, W] uint8 as the autoencoder takes them, [B, 3, H, W] in -1..1."""
    return (torch.from_numpy(images).float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)


def optimise(model: torch.nn.Module, loss_of, steps: int, rate: float, label: str, after_step=lambda: None) -> float:
    """AdamW with a warm-up and a cosine; `loss_of()` draws its own batch. Returns the last 200 steps' mean loss."""
    model.to(memory_format=torch.channels_last)  # a sixth faster on a CPU
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    losses, bar = [], trange(steps, desc=label, mininterval=5, leave=False, disable=None)
    for step in bar:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        after_step()
        losses.append(loss.item())
        if (step + 1) % 200 == 0:
            print(f"{label} {step + 1}: loss {np.mean(losses[-200:]):.4f}", flush=True)
    model.to(memory_format=torch.contiguous_format)
    return float(np.mean(losses[-200:]))


def train_autoencoder(images: np.ndarray, steps: int, seed: int) -> tuple[AutoencoderKL, float]:
    """Squared error plus a light pull of the latents towards the unit normal."""
    torch.manual_seed(seed)
    model, rng = AutoencoderKL(**AUTOENCODER), np.random.default_rng(seed)

    def loss_of() -> torch.Tensor:
        pixels = to_pixels(images[rng.integers(len(images), size=BATCH)])
        latents = model.encode(pixels).latent_dist
        error = (model.decode(latents.sample()).sample - pixels).square().mean()
        return error + KL_WEIGHT * latents.kl().mean() / latents.mean[0].numel()

    loss = optimise(model, loss_of, steps, 2e-3, "autoencoder")
    with torch.no_grad():
        model.register_to_config(scaling_factor=1 / encode(model, images[:2048]).mean.std().item())
    return model.eval(), loss


class Latents(NamedTuple):
    mean: torch.Tensor  # [n, 4, h, w]
    std: torch.Tensor  # [n, 4, h, w]


@torch.no_grad()
def encode(model: AutoencoderKL, images: np.ndarray) -> Latents:
    """The distributions of all latents, unscaled."""
    parts = [model.encode(to_pixels(images[row : row + 512])).latent_dist for row in range(0, len(images), 512)]
    return Latents(torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts]))


@torch.no_grad()
def read_captions(captions: list[str], tokenizer: CLIPTokenizer, tower: CLIPTextModel) -> Captions:
    distinct = ["", *sorted(set(captions))]
    ids = tokenizer(distinct, padding="max_length", truncation=True, return_tensors="pt").input_ids
    states = torch.cat([tower(part).last_hidden_state for part in ids.split(512)])
    return Captions({caption: row for row, caption in enumerate(distinct)}, states)


def train_denoiser(latents: Latents, scale: float, data, tokenizer, tower, options):
    """Velocity prediction (Salimans & Ho, arXiv 2202.00512, appendix D); returns the averaged model and its loss."""
    torch.manual_seed(options.seed)
    rng, scheduler = np.random.default_rng(options.seed), DDIMScheduler(**SCHEDULE)
    # Several captions of each image, drawn beforehand: the text tower then runs once a distinct caption.
    spoken = [rendered_type.captions(rng, data) for _ in range(4)]
    captions = read_captions([text for texts in spoken for text in texts], tokenizer, tower)
    rows = np.array([[captions.rows[text] for text in texts] for texts in spoken])
    model = UNet2DConditionModel(cross_attention_dim=captions.states.shape[2], **DENOISER)
    average = EMAModel(model.parameters(), decay=0.999)

    def loss_of() -> torch.Tensor:
        batch = rng.integers(len(latents.mean), size=BATCH)
        said = np.where(rng.random(BATCH) < CAPTION_DROPOUT, 0, rows[rng.integers(len(rows), size=BATCH), batch])
        mean, std = latents.mean[batch], latents.std[batch]
        clean = scale * (mean + std * torch.randn_like(mean))
        noise, times = torch.randn_like(clean), torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        target = scheduler.get_velocity(clean, noise, times)
        guess = model(scheduler.add_noise(clean, noise, times), times, captions.states[said]).sample
        return (guess - target).square().mean()

    loss = optimise(model, loss_of, options.denoiser_steps, 1e-3, "denoiser", lambda: average.step(model.parameters()))
    average.copy_to(model.parameters())
    return model.eval(), loss


def obtain_autoencoder(images: np.ndarray, steps: int, seed: int, scratch: pathlib.Path | None):
    """The autoencoder, its loss and its minutes: trained now, or read from `scratch` if an earlier start left it."""
    if scratch and (scratch / "record.json").is_file():
        record = json.loads((scratch / "record.json").read_text())
        model = AutoencoderKL(**AUTOENCODER, scaling_factor=record["scaling_factor"]).eval()
        model.load_state_dict(load_file(scratch / "autoencoder.safetensors"))
        return model, record["loss"], record["minutes"]
    started = time.monotonic()
    model, loss = train_autoencoder(images, steps, seed)
    minutes = (time.monotonic() - started) / 60
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), scratch / "autoencoder.safetensors")
        record = {"loss": loss, "minutes": minutes, "scaling_factor": model.config.scaling_factor}
        (scratch / "record.json").write_text(json.dumps(record))
    return model, loss, minutes


def save(pipeline: StableDiffusionPipeline, record: dict, output: pathlib.Path) -> None:
    """Writes aside, then renames: the directory is there whole or not at all."""
    aside = output.with_name(output.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    pipeline.save_pretrained(aside, safe_serialization=True)
    for weights in aside.rglob("*.safetensors"):
        weights.chmod(0o644)  # the writer leaves them to their owner alone
    (aside / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    aside.rename(output)


def main(_):
    options = flags.FLAGS
    data = rendered_type.render(options.images, options.seed, DIGIT_SHARE)
    scratch = pathlib.Path(options.scratch) if options.scratch else None
    autoencoder, error, minutes = obtain_autoencoder(data.images, options.autoencoder_steps, options.seed, scratch)
    started = time.monotonic()
    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    tower = CLIPTextModel.from_pretrained(options.clip, use_safetensors=True).eval()
    scale = autoencoder.config.scaling_factor
    latents = encode(autoencoder, data.images)
    denoiser, loss = train_denoiser(latents, scale, data, tokenizer, tower, options)
    record = {
        "command": f"python -m experiments.pretrain.pocket_generator --seed={options.seed} --images={options.images} "
        f"--autoencoder_steps={options.autoencoder_steps} --denoiser_steps={options.denoiser_steps}",
        "autoencoder_loss": round(error, 5),
        "final_loss": round(loss, 4),
        "minutes": round(minutes + (time.monotonic() - started) / 60, 1),
    }
    parts = {"vae": autoencoder, "unet": denoiser, "text_encoder": tower, "tokenizer": tokenizer}
    parts |= {"scheduler": DDIMScheduler(**SCHEDULE), "safety_checker": None, "feature_extractor": None}
    save(StableDiffusionPipeline(**parts, requires_safety_checker=False), record, pathlib.Path(options.output))
    print(json.dumps(record))


if __name__ == "__main__":
    flags.DEFINE_string("clip", "cachefl_jax/clip/pocket", "checkpoint whose text tower and tokenizer it takes")
    flags.DEFINE_string("output", "cachefl_jax/synthesis/pocket", "directory of the pipeline")
    flags.DEFINE_string("scratch", "", "directory that keeps the autoencoder, so that a second start reuses it")
    flags.DEFINE_integer("seed", 0, "seed of type, captions, weights, noise and order")
    flags.DEFINE_integer("images", 60_000, "characters to render")
    flags.DEFINE_integer("autoencoder_steps", 1500, "steps of 64 images")
    flags.DEFINE_integer("denoiser_steps", 4000, "steps of 64 images")
    app.run(main)
