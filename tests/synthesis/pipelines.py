"""Text-to-image pipelines of random weights, in the shapes of released ones: a few kilobytes each, saved to disk."""

import pathlib

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from cachefl_jax.synthesis.pipeline import POCKET

WIDTH = 16


def clip_tokenizer() -> CLIPTokenizer:
    """The embedded one: it takes 16 tokens."""
    return CLIPTokenizer.from_pretrained(POCKET / "tokenizer")


def t5_tokenizer() -> T5TokenizerFast:
    """Letter by letter."""
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("\u2581", -2.0)]
    letters += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz."]
    return T5TokenizerFast(vocab=letters, extra_ids=0, model_max_length=512)


def clip_config(projection: int = WIDTH) -> CLIPTextConfig:
    tokenizer = clip_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=projection, bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=1,
    )  # fmt: skip


def t5_model() -> T5EncoderModel:
    sizes = {"vocab_size": 40, "d_model": WIDTH, "d_kv": 8, "d_ff": WIDTH, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes))


def autoencoder(channels: int = 4) -> AutoencoderKL:
    """Eight pixels a latent, as the released ones; four where the channels are Flux's and SD3's."""
    sides = 4 if channels == 4 else 2
    return AutoencoderKL(
        block_out_channels=(8,) * sides, down_block_types=("DownEncoderBlock2D",) * sides,
        up_block_types=("UpDecoderBlock2D",) * sides, layers_per_block=1, norm_num_groups=4, latent_channels=channels,
        sample_size=64, shift_factor=0.1,
    )  # fmt: skip


def unet(**more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, WIDTH), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, **({"cross_attention_dim": WIDTH} | more),
    )  # fmt: skip


def stable_diffusion(scheduler=None, **more) -> StableDiffusionPipeline:
    """As Stable Diffusion 1.5; with `time_cond_proj_dim` as a consistency model made of it."""
    return StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(), unet=unet(**more),
        scheduler=scheduler or DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    """Two text encoders, of which the second gives a pooled text too; time ids."""
    return StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()), tokenizer_2=clip_tokenizer(),
        unet=unet(
            cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(),
    )  # fmt: skip


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    """Two CLIPs and a T5."""
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=2 * WIDTH, caption_projection_dim=16, pooled_projection_dim=2 * WIDTH, out_channels=16,
        pos_embed_max_size=64,
    )  # fmt: skip
    t5 = T5EncoderModel(T5Config(vocab_size=40, d_model=2 * WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2))
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(16),
        text_encoder=CLIPTextModelWithProjection(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5, tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def flux() -> FluxPipeline:
    """A CLIP for the pooled text, a T5 for the words, and guidance that is an input of the transformer."""
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(4), transformer=transformer,
        text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(), text_encoder_2=t5_model(),
        tokenizer_2=t5_tokenizer(),
    )  # fmt: skip


SHAPES = {
    "sd15": stable_diffusion,
    "lcm": lambda: stable_diffusion(LCMScheduler(steps_offset=1), time_cond_proj_dim=8),
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}


def save(shape: str, folder: pathlib.Path) -> pathlib.Path:
    """A pipeline of this shape in `folder`, whose weights come from a seed."""
    torch.manual_seed(0)
    SHAPES[shape]().save_pretrained(folder, safe_serialization=True)
    return folder
