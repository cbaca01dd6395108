"""Images to features: ours against transformers' torch CLIP, from JPEG files and from prepared pixels, in turns.

    python -m experiments.benchmarks.encoding [--images=256] [--rounds=5] [--batch_size=0]

Writes a ViT-B/32 checkpoint with random weights and JPEG files of smooth random pictures to a temporary folder. Both
sides decode the files by the same function, and their features are compared before a time is read. Then they take
turns, so that whatever else the machine does falls on both; torch gets a thread a core, its inference mode, and the
batch size that ours uses. The memory of each is read in a process of its own.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from cachefl_jax.commands import command
from cachefl_jax.data.images import Images, read_image
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores
from cachefl_jax.report.units import integer, readable_bytes, readable_seconds, three_digits
from experiments.benchmarks import entrants
from experiments.benchmarks.readings import forget_peak, memory, peak_bytes
from experiments.benchmarks.tables import markdown

SIZES = ((400, 300), (500, 375), (375, 500), (640, 480), (333, 500))  # (width, height), as data sets have them
SIDES = ("cachefl_jax", "transformers, torch")
JOBS = ("JPEG files to features", "prepared pixels to features")
AGREE = 1e-5  # the largest difference of two unit features


class Side(NamedTuple):
    """One of the two that are compared."""

    from_files: Callable[[], np.ndarray]  # unit features [n, D]
    from_pixels: Callable[[], np.ndarray]


def pictures_in(folder: pathlib.Path) -> Images:
    """JPEG files, decoded when asked for."""
    paths = sorted(map(str, folder.glob("*.jpg")))
    return Images(len(paths), lambda row: read_image(paths[row]), paths.__getitem__)


def write_inputs(folder: pathlib.Path, images: int, config=None) -> None:
    """A checkpoint in ``folder/clip``, a ViT-B/32 unless a `CLIPConfig` says otherwise, and JPEG files in
    ``folder/images``; the same for the same number."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    config = config or CLIPConfig()
    side = config.vision_config.image_size
    CLIPModel(config).save_pretrained(folder / "clip")
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side).save_pretrained(folder / "clip")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = coarse.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)
        picture.save(folder / "images" / f"{number:05d}.jpg", quality=90)


def ours(folder: pathlib.Path, batch_size: int, pixels: np.ndarray | None = None) -> Side:
    """Ours on the folder's files, and on `pixels` [n, H, W, 3] uint8 that are resized and cropped already."""
    from cachefl_jax.clip.encoder import Encoder, image_part, image_size
    from cachefl_jax.clip.encoding import Options, encode_images
    from cachefl_jax.clip.images import read_preparation
    from cachefl_jax.clip.weights import load_clip

    clip = folder / "clip"
    towers = image_part(Encoder("", load_clip(clip), None, read_preparation(clip), image_size(clip)))  # as a run has it
    ready = towers._replace(preparation=towers.preparation._replace(resize=None, crop=None))
    pictures, options = pictures_in(folder / "images"), Options(batch_size)
    return Side(
        lambda: encode_images(towers, pictures, options=options), lambda: encode_images(ready, pixels, options=options)
    )


def theirs(folder: pathlib.Path, batch_size: int, pixels: np.ndarray | None = None) -> Side:
    """As `ours`, by the processor and the model of transformers; its `pixels` are normalised beforehand."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder / "clip").eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder / "clip")
    pictures = pictures_in(folder / "images")

    def encode(count: int, batch_of: Callable[[range], "torch.Tensor"]) -> np.ndarray:
        features = []
        with torch.inference_mode():
            for start in range(0, count, batch_size):
                rows = range(start, min(start + batch_size, count))
                raw = model.visual_projection(model.vision_model(batch_of(rows)).pooler_output)
                features.append(torch.nn.functional.normalize(raw).numpy())
        return np.concatenate(features)

    def prepared(rows: range) -> "torch.Tensor":
        return processor([pictures[row] for row in rows], return_tensors="pt")["pixel_values"]

    ready = None if pixels is None else processor(list(pixels), return_tensors="pt")["pixel_values"]
    return Side(
        lambda: encode(len(pictures), prepared), lambda: encode(len(ready), lambda rows: ready[rows.start : rows.stop])
    )


MAKERS = {"ours": ours, "theirs": theirs}


def in_turns(sides: Sequence[Callable[[], np.ndarray]], rounds: int) -> list[list[float]]:
    """Seconds of every round of every side, after one that compiles and warms up and whose features must agree.

    Raises UsageError: they do not."""
    first, *others = [side() for side in sides]
    for features in others:
        apart = float(np.abs(features - first).max())
        if not apart < AGREE:
            mend = "no time is comparable before the features agree"
            raise UsageError("features of both sides", f"{apart:.2g} apart", f"less than {AGREE:g}", mend)
    seconds = [[] for _ in sides]
    for _ in range(rounds):
        for side, times in zip(sides, seconds, strict=True):
            started = time.perf_counter()
            side()
            times.append(time.perf_counter() - started)
    return seconds


def time_table(job: str, images: int, seconds: Sequence[Sequence[float]]) -> str:
    """Images a second by the median and the best round, and how much faster ours is."""
    lines = [[job, "images/s, median", "images/s, best", "a round, median", "ours is faster, median", "best"]]
    middles, bests = [statistics.median(times) for times in seconds], [min(times) for times in seconds]
    for name, middle, best in zip(SIDES, middles, bests, strict=True):
        figures = [three_digits(images / middle), three_digits(images / best), readable_seconds(middle)]
        lines.append([name, *figures, f"{middle / middles[0]:.2f}x", f"{best / bests[0]:.2f}x"])
    return markdown(lines)


def measure_memory(side: str, folder: pathlib.Path, batch_size: int) -> dict:
    """Peak memory of a process that does nothing but encode the files; run in that process."""
    if side == "theirs":
        import torch  # noqa: F401
        from transformers import CLIPImageProcessorPil, CLIPModel  # noqa: F401
    else:
        import cachefl_jax.clip.encoding
        import cachefl_jax.clip.weights  # noqa: F401
    libraries = memory("VmRSS")
    made = MAKERS[side](folder, batch_size)
    loading = peak_bytes()
    forget_peak()
    made.from_files()
    return {"libraries": libraries, "loading": loading, "encoding": peak_bytes()}


def memory_table(folder: pathlib.Path, batch_size: int) -> str:
    """Both sides' peaks against the weights and one batch of float32 pixels."""
    weights = (folder / "clip" / "model.safetensors").stat().st_size
    batch = batch_size * 224 * 224 * 3 * 4
    title = f"memory (weights and one batch: {readable_bytes(weights + batch)})"
    lines = [[title, "libraries alone", "peak, loading", "peak, encoding", "x", "x without libraries"]]
    for side, name in zip(MAKERS, SIDES, strict=True):
        words = [f"--folder={folder}", f"--only={side}", f"--batch_size={batch_size}"]
        read = entrants.run(name, [sys.executable, "-m", "experiments.benchmarks.encoding", *words])
        figures = [readable_bytes(read[field]) for field in ("libraries", "loading", "encoding")]
        peak = max(read["loading"], read["encoding"])
        times = [peak / (weights + batch), (peak - read["libraries"]) / (weights + batch)]
        lines.append([name, *figures, *(f"{value:.2f}" for value in times)])
    return markdown(lines)


def compare(folder: pathlib.Path, images: int, rounds: int, batch_size: int) -> None:
    """Prints all tables."""
    import torch

    from cachefl_jax.clip.encoding import default_devices, per_batch
    from cachefl_jax.clip.images import read_preparation, shaped

    write_inputs(folder, images)
    batch_size = per_batch(batch_size, (224, 224), default_devices(), 1)
    torch.set_num_threads(cores())
    preparation, pictures = read_preparation(folder / "clip"), pictures_in(folder / "images")
    pixels = np.stack([shaped(picture, preparation) for picture in pictures])
    sides = [make(folder, batch_size, pixels) for make in MAKERS.values()]
    print(f"{integer(images)} images, {rounds} rounds in turns, {batch_size} a batch, {cores()} cores\n")
    for job, name in zip(JOBS, Side._fields, strict=True):
        print(time_table(job, images, in_turns([getattr(side, name) for side in sides], rounds)), "\n", flush=True)
    print(memory_table(folder, batch_size))


def main() -> None:
    options = flags.FLAGS
    if options.only:
        print(json.dumps(measure_memory(options.only, pathlib.Path(command.required("folder")), options.batch_size)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(pathlib.Path(temporary), options.images, options.rounds, options.batch_size)


def define_flags() -> None:
    flags.DEFINE_integer("images", 256, "JPEG files", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "rounds that count, of each side", lower_bound=1)
    flags.DEFINE_integer("batch_size", 0, "images a step; 0 = what ours chooses", lower_bound=0)
    flags.DEFINE_enum("only", None, list(MAKERS), "measure the memory of one side, in this process")
    flags.DEFINE_string("folder", None, "with --only: where the checkpoint and the images are")


if __name__ == "__main__":
    define_flags()
    command.run(main)
