"""Runs to be killed: short ones on each kind of source, that write all that a run writes."""

import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
COMMON = (
    "--config.rounds=12", "--config.eval_every=2", "--config.checkpoint_every=3", "--config.partition.clients=4",
    "--config.cache.keys_per_class=2", "--config.local.learning_rate=0.001", "--config.engine.devices=1",
)  # fmt: skip
CLASSES = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def digits(folder: pathlib.Path) -> list[str]:
    """The demo's smaller brother: images of type are drawn, digits encoded."""
    return [f"--config={CONFIGS / 'digits.py'}:smoke", "--config.methods=('cachefl','centralized')"]


def bank(folder: pathlib.Path) -> list[str]:
    """Features of one's own: three classes in eight dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    arrays = {"text_features": centres}
    for name, count in (("train", 60), ("val", 30), ("test", 60), ("synthetic", 9)):
        labels = np.arange(count) % 3
        features = centres[labels] + rng.normal(size=(count, 8))
        arrays |= {f"{name}_features": features.astype(np.float32), f"{name}_labels": labels}
    np.savez(folder / "bank.npz", **arrays)
    return [
        f"--config={CONFIGS / 'feature_bank.py'}",
        f"--config.data.path={folder / 'bank.npz'}",
        "--config.methods=('zero_shot','cachefl','local_only')",
    ]


def images(folder: pathlib.Path) -> list[str]:
    """Class folders of pictures, of which some are the server's."""
    rng = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(colour, 60, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    return [
        f"--config={CONFIGS / 'images.py'}:image_folder", f"--config.data.path={folder / 'images'}",
        "--config.clip.checkpoint=pocket", "--config.clip.key_views=0", "--config.data.shots=0",
        "--config.synthesis.source=held_out", "--config.synthesis.images_per_class=3",
        "--config.methods=('cache_init','cachefl')",
    ]  # fmt: skip


# () -> the flags that name the run, of what is made in a folder
VICTIMS: dict[str, Callable[[pathlib.Path], list[str]]] = {"digits": digits, "bank": bank, "images": images}
