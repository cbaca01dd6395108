"""Do diversified prompts make a better set? One template against several and against the grammar's descriptions.

    python -m experiments.benchmarks.prompts --seeds=5 --rounds=20 --keys=16
    python -m experiments.benchmarks.prompts --words

Everything else is as in the demo's config (`experiments/configs/digits.py`), a seed of which seeds the prompts, the
images, the clients and the rounds. Prints a table of means and standard deviations over seeds, and of what each
diversified set has more than the first row's of the same seed. With --words it prints how much of an image each word of
style changes, beside what another seed does.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import simulate
from cachefl_jax.config import resolve
from cachefl_jax.configs import digits
from cachefl_jax.simulation.environment import settled
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.synthesis import Drawing, generate, grammar
from cachefl_jax.synthesis.measures import measure

PROMPTS = {
    "one template": {"synthesis.prompts": ("a photo of the digit {}.",)},
    "four templates": {},
    "grammar": {"synthesis.language_model": "grammar"},
    "plain and bold": {"synthesis.prompts": ("a photo of the digit {}.", "a photo of the bold digit {}.")},
}
FIGURES = ("round 0, %", "tuned, %", "Frechet", "CMMD", "coverage", "diversity")


def config_of(changes: Mapping[str, object], seed: int, rounds: int, keys: int) -> ConfigDict:
    """The demo's config with these prompts, CacheFL alone."""
    config = digits.get_config()
    config.compare, config.overrides, config.methods = (), (), ("cache_init", "cachefl")
    config.seed, config.rounds, config.eval_every = seed, rounds, rounds
    config.checkpoint_every = rounds
    config.synthesis.images_per_class = config.cache.keys_per_class = keys
    config.update_from_flattened_dict(dict(changes))
    return config


def figures(config: ConfigDict) -> list[float]:
    """FIGURES of one set: accuracy on the test rows, and the measures against the validation rows."""
    methods = simulate(config, None).summary["methods"]
    accuracy = [100 * methods[name]["test_accuracy"] for name in ("cache_init", "cachefl")]
    with settled():
        bank = prepare(resolve(config)).bank
    found = measure(bank.synthetic, bank.validation, bank.class_names)["mean_of_classes"]
    measures = (found[name] for name in ("frechet", "cmmd", "coverage", "diversity"))
    return [*accuracy, *(np.nan if value is None else value for value in measures)]  # too few images for neighbours


def table(found: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """A row for each kind of prompts, mean and standard deviation over seeds, and its gain over the first row."""
    heading = f"| prompts | {' | '.join(FIGURES)} | tuned against the first row, mean and standard error |"
    lines = [heading, "|---" * (len(FIGURES) + 2) + "|"]
    first = np.array(next(iter(found.values())))
    for name, rows in found.items():
        values = np.array(rows)
        gain = values[:, 1] - first[:, 1]
        cells = [f"{mean:.3g} ± {std:.2g}" for mean, std in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        told = f"{gain.mean():+.2f} ± {gain.std(ddof=1) / np.sqrt(len(gain)):.2f}" if gain.any() else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {told} |")
    return lines


def words(images: int = 24) -> list[str]:
    """Mean differences of images of a five, in grey levels: by a word of style at equal seeds, and between seeds."""

    def drawn(style: str) -> np.ndarray:
        prompt = " ".join(f"a photo of the {style} digit five.".split())
        config = digits.get_config().synthesis
        how = Drawing(config.steps, config.guidance)
        return generate("pocket", [prompt] * images, range(images), how).astype(float)

    plain = drawn("")
    lines = [f"{style}: {np.abs(drawn(style) - plain).mean():.1f}" for style in grammar.TYPE.parts["style"] if style]
    return [*lines, f"another seed: {np.abs(plain[1:] - plain[:-1]).mean():.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keys", type=int, default=16)
    parser.add_argument("--words", action="store_true")
    options = parser.parse_args()
    if options.words:
        print("\n".join(words()))
        return
    found: dict[str, list[list[float]]] = {name: [] for name in PROMPTS}
    for seed in range(options.seeds):
        for name, changes in PROMPTS.items():
            found[name].append(figures(config_of(changes, seed, options.rounds, options.keys)))
            print(seed, name, *(f"{value:.4g}" for value in found[name][-1]), flush=True)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
