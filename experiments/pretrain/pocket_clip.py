"""Pre-trains the pocket CLIP on rendered type and writes it in Hugging Face's format.

    python -m experiments.pretrain.pocket_clip --output=FIRST
    python -m experiments.pretrain.pocket_clip --output=DIR --text=FIRST --coarsest=16 --epochs=5

The second command keeps the first one's text tower and trains a new image tower to it, on type that is never seen
coarser than 16 pixels a side. That leaves the gap which fine-tuning is to close: an image tower that has seen type at 8
pixels already reads 69% of the training and validation handwriting by its prompts, this one 65%.

The loss is CLIP's, with every caption of the same character counted as a match (UniCL, arXiv 2204.03610, eq. 3):
a batch of 256 draws each of the 62 characters several times, and calling those mismatches would teach nothing.
"""

import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from flax import nnx
from tqdm import tqdm
from transformers import CLIPConfig

from cachefl_jax.clip.images import prepare_all, read_preparation
from cachefl_jax.clip.model import CLIP
from cachefl_jax.clip.weights import load_clip, save_clip
from experiments.pretrain import rendered_type, tokenizer

BATCH = 256

PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": rendered_type.SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": rendered_type.SIZE, "width": rendered_type.SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.25, 0.25, 0.25],
    "image_std": [0.3, 0.3, 0.3],
}


def configuration(vocabulary) -> CLIPConfig:
    """About 1.3 million parameters: 4 blocks over 16 patches, 2 blocks over 16 tokens."""
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    return CLIPConfig(
        vision_config={**tower, "num_hidden_layers": 4, "image_size": rendered_type.SIZE, "patch_size": 8},
        text_config={
            **tower,
            "num_hidden_layers": 2,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": tokenizer.LENGTH,
            "bos_token_id": vocabulary.bos_token_id,
            "eos_token_id": vocabulary.eos_token_id,
            "pad_token_id": vocabulary.pad_token_id,
        },
        projection_dim=128,
    )


def contrastive_loss(model: CLIP, pixels, ids, glyphs) -> jax.Array:
    """UniCL's bidirectional loss of pixels [B, H, W, 3], token ids [B, T] and characters [B]."""
    images, texts = model.image_features(pixels), model.text_features(ids)
    images, texts = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    logits = jnp.exp(model.logit_scale[...]) * images @ texts.T
    same = (glyphs[:, None] == glyphs[None]).astype(jnp.float32)
    target = same / same.sum(axis=1, keepdims=True)
    both = optax.softmax_cross_entropy(logits, target) + optax.softmax_cross_entropy(logits.T, target)
    return both.mean() / 2


IMAGE_SIDE = ("vision_model", "visual_projection", "logit_scale")


def train(model: CLIP, data, pixels, vocabulary, epochs: int, seed: int, *, keep_text: bool = False) -> float:
    """Trains in place with AdamW and a one-cycle cosine; returns the last epoch's mean loss.

    With `keep_text` the text tower and its projection stay as they are."""
    trained = nnx.All(nnx.Param, lambda path, _: path[0] in IMAGE_SIDE) if keep_text else nnx.Param
    steps = epochs * (len(pixels) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.5e-3, steps // 20, steps)
    transform = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05))
    optimizer = nnx.Optimizer(model, transform, wrt=trained)

    @nnx.jit
    def step(model, optimizer, pixels, ids, glyphs):
        loss, gradients = nnx.value_and_grad(contrastive_loss, argnums=nnx.DiffState(0, trained))(
            model, pixels, ids, glyphs
        )
        optimizer.update(model, gradients)
        # The scale's ceiling is the paper's: beyond 100 training is unstable.
        model.logit_scale[...] = jnp.minimum(model.logit_scale[...], jnp.log(100.0))
        return loss

    rng, mean = np.random.default_rng(seed), float("nan")
    for epoch in range(epochs):
        ids = vocabulary(rendered_type.captions(rng, data), padding="max_length", max_length=tokenizer.LENGTH)
        ids = np.asarray(ids["input_ids"], np.int32)
        batches = rng.permutation(len(pixels))[: len(pixels) // BATCH * BATCH].reshape(-1, BATCH)
        bar = tqdm(batches, desc=f"epoch {epoch + 1}/{epochs}", leave=False, disable=None)
        losses = [step(model, optimizer, jnp.asarray(pixels[b]), ids[b], data.glyphs[b]) for b in bar]
        mean = float(jnp.mean(jnp.stack(losses)))
        print(f"epoch {epoch + 1}: loss {mean:.4f}, scale {float(jnp.exp(model.logit_scale[...])):.1f}", flush=True)
    return mean


def main(_):
    options = flags.FLAGS
    started, output = time.monotonic(), pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.build(output)
    (output / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    data = rendered_type.render(options.images, options.seed, coarsest=options.coarsest)
    pixels = prepare_all(data.images, read_preparation(output))
    config = configuration(vocabulary)
    model = CLIP(config, rngs=nnx.Rngs(options.seed))
    if options.text:
        first = load_clip(pathlib.Path(options.text))
        model.text_model, model.text_projection = first.text_model, first.text_projection
    loss = train(model, data, pixels, vocabulary, options.epochs, options.seed, keep_text=bool(options.text))
    save_clip(model, config, output)
    record = {
        "command": f"python -m experiments.pretrain.pocket_clip --seed={options.seed} --images={options.images} "
        f"--epochs={options.epochs} --coarsest={options.coarsest}" + (" --text=FIRST" if options.text else ""),
        "final_loss": round(loss, 4),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    if options.text:
        record["first"] = json.loads((pathlib.Path(options.text) / "pretraining.json").read_text())
    (output / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    flags.DEFINE_string("output", "cachefl_jax/clip/pocket", "directory of the checkpoint")
    flags.DEFINE_integer("seed", 0, "seed of type, captions, weights and order")
    flags.DEFINE_integer("images", 100_000, "characters to render")
    flags.DEFINE_integer("coarsest", 8, "lowest resolution of a character, in pixels a side")
    flags.DEFINE_string("text", "", "checkpoint whose text tower is kept; none trains both towers")
    flags.DEFINE_integer("epochs", 10, "passes over them, each with fresh captions")
    app.run(main)
