"""Whether the residual towers give open_clip's own features, at full size.

    python -m experiments.benchmarks.parity_resnet --peer=/path/to/python [--models=RN50,RN101]

The peer's interpreter needs torch, open_clip_torch and safetensors, and nothing of ours but this file. There, open_clip
builds the model with random weights, takes its batch norms' statistics from images, and writes a checkpoint in its own
format, pictures, token ids, and their features. Here, the checkpoint is loaded and the same pictures are prepared and
encoded, so that the figures hold for the whole way from a picture to its features.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

MODELS = ("RN50", "RN101", "RN50x4")
PICTURES = 8
TEXTS = (
    "a photo of a cat.", "7", "a centered satellite photo of annual crop land.", "a photo of a person doing yo yo.",
)  # fmt: skip


def compare(name: str, peer: str) -> dict:
    """The `parity.Parity` of each tower, "image" and "text", of one of `MODELS`.

    `peer`: the interpreter that has open_clip.

    Raises UsageError: the peer could not be run."""
    from cachefl_jax.errors import UsageError
    from experiments.benchmarks import parity

    with tempfile.TemporaryDirectory() as folder:
        line = [peer, __file__, name, folder]
        try:
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise UsageError("--peer", peer, "a Python interpreter", "correct the path") from error
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no message"])[-1]
            needs = "an interpreter with torch, open_clip_torch and safetensors"
            raise UsageError("--peer", f"{peer} ({last})", needs, "install them there") from error
        with np.load(pathlib.Path(folder, "peer.npz")) as theirs:
            image, text = our_features(pathlib.Path(folder), theirs["pictures"], theirs["ids"])
            return {"image": parity.compare(image, theirs["image"]), "text": parity.compare(text, theirs["text"])}


def our_features(directory: pathlib.Path, pictures: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(features [B, D] of uint8 pictures [B, H, W, 3], features [B, D] of token ids [B, T])."""
    from cachefl_jax.clip.images import prepare_all, read_preparation
    from experiments.benchmarks import parity

    images, texts, _ = parity.read_ours(directory)
    return images(prepare_all(pictures, read_preparation(directory))), texts(ids)


def write_peer(name: str, directory: pathlib.Path) -> None:
    """open_clip's side, run by its own interpreter: a checkpoint and ``peer.npz``."""
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image
    from safetensors.torch import save_file

    config = open_clip.get_model_config(f"{name}-quickgelu")
    model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True)
    size = config["vision_cfg"]["image_size"]
    coarse = np.random.default_rng(0).integers(0, 256, (PICTURES, 10, 12, 3), np.uint8)
    # Two columns less: an odd number is cut from RN50's and RN101's pictures, where the middle is a matter of rounding.
    pictures = coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)[:, :, :-2]
    prepare = image_transform_v2(PreprocessCfg(size=size), is_train=False)
    pixels = torch.stack([prepare(Image.fromarray(picture)) for picture in pictures])
    ids = open_clip.SimpleTokenizer()(list(TEXTS))
    with torch.no_grad():
        randomize(model)
        model.train().encode_image(pixels)
        model.eval()
        image, text = model.encode_image(pixels), model.encode_text(ids)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    settings = {"model_cfg": {**config, "quick_gelu": True}, "preprocess_cfg": {"resize_mode": "shortest"}}
    (directory / "open_clip_config.json").write_text(json.dumps(settings))
    np.savez(directory / "peer.npz", pictures=pictures, ids=ids.numpy(), image=image.numpy(), text=text.numpy())


def randomize(model) -> None:
    """Random weights that keep a signal's size, and batch norms that take over the next images' statistics whole."""
    import torch

    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.momentum = 1.0


def main() -> None:
    from absl import flags

    from cachefl_jax.commands import command
    from cachefl_jax.errors import UsageError
    from experiments.benchmarks import parity

    names, missed = parity.check_names("models", flags.FLAGS.models, MODELS), []
    print(f"{'model':8} {'tower':6} {'least cosine':>14} {'largest difference':>20} {'spread':>8}")
    for name in names:
        for tower, found in compare(name, command.required("peer")).items():
            print(f"{name:8} {tower:6} {found.cosine:14.9f} {found.difference:20.2e} {found.spread:8.2f}")
            missed += [] if parity.close(found) else [f"{name} {tower}"]
    if missed:
        allowed = f"cosine at least {parity.LEAST_COSINE}, difference at most {parity.LARGEST_DIFFERENCE:g}"
        raise UsageError("parity", ", ".join(missed), allowed, "find out which layer differs first")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in MODELS:  # the peer's side
        write_peer(sys.argv[1], pathlib.Path(sys.argv[2]))
    else:
        from absl import flags

        from cachefl_jax.commands import command

        flags.DEFINE_string("peer", None, "the interpreter that has open_clip, /path/to/python")
        flags.DEFINE_list("models", ["RN50", "RN101"], "which to compare")
        command.run(main)
