"""Images to features on an accelerator, from uint8 pixels in the host's memory: ours and transformers' CLIP in torch.

Checkpoints have random weights. What counts is images a second with all transfers, and that the features agree.
"""

import functools
import pathlib
import tempfile

import numpy as np

from experiments.benchmarks.encoding import write_inputs

BATCH = 256  # images a step of PyTorch
IMAGES, SECONDS = {"ViT-B/32": 4096, "ViT-L/14": 1536, "tiny": 8}, 0.6
SIDES = (
    ("bfloat16", "ours"), ("bfloat16", "theirs"), ("float32", "ours"), ("float32_3x", "ours"), ("float32", "theirs"),
    ("TF32", "theirs"),
)  # fmt: skip
THEIRS = {"float32": ("float32", False), "TF32": ("float32", True), "bfloat16": ("bfloat16", True)}
LIKE = THEIRS | {"float32_3x": ("float32", False)}  # whose features these are held against


def configs(tiny: bool) -> dict:
    """A `CLIPConfig` by name."""
    from transformers import CLIPConfig

    if tiny:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision = sizes | {"image_size": 32, "patch_size": 16}
        return {"tiny": CLIPConfig(projection_dim=16, vision_config=vision, text_config=sizes)}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    large = CLIPConfig(projection_dim=768, vision_config=vision | {"patch_size": 14}, text_config=text)
    return {"ViT-B/32": CLIPConfig(), "ViT-L/14": large}


def ours(folder: pathlib.Path, pixels: np.ndarray, dtype: str):
    """() -> unit features [n, D] float32."""
    from cachefl_jax.clip.encoder import Encoder, image_part, image_size
    from cachefl_jax.clip.encoding import Options, encode_images
    from cachefl_jax.clip.images import read_preparation
    from cachefl_jax.clip.weights import load_clip

    preparation = read_preparation(folder)._replace(resize=None, crop=None)
    encoder = image_part(Encoder("", load_clip(folder, dtype), None, preparation, image_size(folder)))
    return functools.partial(encode_images, encoder, pixels, options=Options(dtype=dtype))


def theirs(folder: pathlib.Path, pixels: np.ndarray, name: str):
    """As `ours`; pixels are normalised on the device."""
    import torch
    from transformers import CLIPModel

    dtype, tf32 = THEIRS[name]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, dtype)
    model = CLIPModel.from_pretrained(folder).eval().to(device, dtype)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], device=device).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711], device=device).view(3, 1, 1)

    def encode() -> np.ndarray:
        found = []
        with torch.inference_mode():
            for first in range(0, len(pixels), BATCH):
                batch = torch.from_numpy(pixels[first : first + BATCH]).to(device).permute(0, 3, 1, 2)
                normalised = ((batch / 255 - mean) / std).to(dtype)
                raw = model.visual_projection(model.vision_model(normalised).pooler_output).float()
                found.append(torch.nn.functional.normalize(raw))
        return torch.cat(found).cpu().numpy()

    return encode


def section(record, tiny: bool) -> None:
    """Both sides on every model and dtype."""
    from experiments.benchmarks.accelerator_record import timed

    for name, config in configs(tiny).items():
        side = config.vision_config.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (IMAGES[name], side, side, 3), dtype=np.uint8)
        first: dict[str, np.ndarray] = {}

        def measure(make, clip, dtype, pixels=pixels, first=first) -> dict:
            encode = make(clip, pixels, dtype)
            features = encode()
            off = float(np.abs(features - first.setdefault(LIKE[dtype][0], features)).max())
            found = timed(encode, least=SECONDS)
            return found | {"images_per_s": 1e3 * len(pixels) / found["ms"], "off": off}

        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            write_inputs(folder, 0, config)
            for dtype, side in SIDES:
                by, make = {"ours": ("cachefl_jax", ours), "theirs": ("transformers", theirs)}[side]
                given = functools.partial(measure, make, folder / "clip", dtype)
                record.take("encoding", given, model=name, by=by, dtype=dtype)
