"""Which measure of a synthetic set tells how accurate a federation that starts from it will be?

    python -m experiments.benchmarks.set_measures --out=runs/set_measures
    python -m experiments.benchmarks.set_measures --out=runs/set_measures --cifar=CIFAR --generated=CIFAKE

CIFAR: a folder with train and test, class folders in each; CIFAKE: class folders of generated images. Without them the
digits alone are measured. Every set is measured against validation rows and trained by every point of a grid.
Accuracies are of test rows at the point with the best validation accuracy, both means of two seeds: of the cache as it
is sent (round 0), also of its keys without texts, and of the cache after 50 rounds. OUT/sets.jsonl has a line a set,
OUT/correlations.json Spearman's rank correlations over sets with 95% intervals by bootstrap of the sets,
OUT/set_measures.png the picture. The same command again goes on where it was stopped.
"""

import argparse
import itertools
import json
import pathlib

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import rankdata

from cachefl_jax.config import changed, resolve
from cachefl_jax.data import FeatureBank, load_bank
from cachefl_jax.report import palette
from cachefl_jax.simulation.environment import settled
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.storage.files import write_json
from cachefl_jax.synthesis.measures import measure
from cachefl_jax.synthesis.rules import margins_of
from experiments.benchmarks.measured_sets import SETS, training_config, write_bank

KEYS_ALONE = 1000.0  # alpha at which the texts have next to no say
GRID = {
    "cache.alpha": (1.0, 10.0, 50.0, KEYS_ALONE),
    "cache.beta": (0.25, 1.0, 4.0),
    "local.learning_rate": (3e-3, 1e-2),
    "seed": (0, 1),
}
BETTER = {"frechet": -1, "cmmd": -1, "nearer_another": -1}  # lower; of the others higher is
FIGURES = ("frechet", "cmmd", "precision", "recall", "density", "coverage", "diversity")
DRAWS = 2000  # of the bootstrap
TARGETS = {"keys": "round 0, keys alone", "round_0": "round 0", "tuned": "after 50 rounds"}
BLIND = ("wrong labels", "classes exchanged")  # sets whose images are good, under other names


def predictors(measured: dict, text_margin: float) -> dict[str, float]:
    """The figures of a set, each turned so that more of it should be better."""
    found = {f"{name}, in all": measured["all"][name] for name in FIGURES}
    found |= {f"{name}, by class": measured["mean_of_classes"][name] for name in (*FIGURES, "nearer_another")}
    found = {name: BETTER.get(name.split(",")[0], 1) * value for name, value in found.items()}
    return found | {"margin to other classes' texts": text_margin}


def margin(bank: FeatureBank) -> float:
    """The mean over the server's images of the cosine to their own class's text less the best other class's."""
    features, labels = bank.synthetic
    margins = [margins_of(features[labels == label], label, bank.text_features).margin for label in range(bank.classes)]
    return float(np.concatenate(margins).mean())


def make(domain: str, given: argparse.Namespace) -> list[dict]:
    """Makes and measures every set of a domain that is not there yet; a line each."""
    folder, lines = given.out / domain.replace(" ", "_"), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, made in enumerate(SETS[domain](given)):
        path = folder / f"{number:02d}.npz"
        if not path.is_file():
            write_bank(path, made.bank())
        told = path.with_suffix(".json")
        if not told.is_file():
            bank = load_bank(path)
            measured = measure(bank.synthetic, bank.validation, bank.class_names)
            write_json(told, {"predictors": predictors(measured, margin(bank)), "measures": measured})
        about = {"domain": domain, "kind": made.kind, "name": made.name, "bank": str(path)}
        lines.append(about | {"predictors": json.loads(told.read_text())["predictors"]})
        print(f"{domain}: {made.name}", flush=True)
    return lines


def train(domain: str, lines: list[dict], out: pathlib.Path) -> list[dict]:
    """The lines with the accuracies of each set."""
    points = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    overrides = [{"data.path": line["bank"], **point} for line in lines for point in points]
    base = training_config(pathlib.Path(lines[0]["bank"]))
    configs = [resolve(changed(base, fields)) for fields in overrides]
    with settled():
        results = run_points(configs, overrides, out / f"{domain.replace(' ', '_')}_sweep", ["run"], False)
    return [
        line | accuracies([result for result in results if result["overrides"]["data.path"] == line["bank"]])
        for line in lines
    ]


def accuracies(results: list[dict]) -> dict[str, float]:
    """Test accuracy at the point of the best validation accuracy, and that, both the mean over seeds; of the keys
    alone and of the cache at round 0, and of the tuned cache, each at its own point."""
    found = {}
    alone = [result for result in results if result["overrides"]["cache.alpha"] == KEYS_ALONE]
    for target, row, some in (
        ("keys", "cache_init", alone),
        ("round_0", "cache_init", results),
        ("tuned", "cachefl", results),
    ):
        points: dict[tuple, list] = {}
        for result in some:
            fields, entry = result["overrides"], result["methods"][row]
            point = tuple(fields[name] for name in GRID if name != "seed")
            points.setdefault(point, []).append((entry["validation_accuracy"], entry["test_accuracy"]))
        sound = [np.mean(scores, axis=0) for scores in points.values() if None not in itertools.chain(*scores)]
        validation, test = max(sound, key=lambda pair: pair[0])
        found |= {f"{target}_validation": float(validation), target: float(test)}
    return found


def correlations(lines: list[dict]) -> dict[str, dict[str, list[float] | None]]:
    """Of each predictor, {target: [Spearman's correlation, low, high]} over these sets."""
    columns = {name: np.array([line["predictors"][name] for line in lines], float) for name in lines[0]["predictors"]}
    for target, name in (("keys", "keys alone, validation accuracy"), ("round_0", "round 0, validation accuracy")):
        columns[name] = np.array([line[f"{target}_validation"] for line in lines])
    found = {}
    for name, values in columns.items():
        found[name] = {target: interval(values, np.array([line[target] for line in lines])) for target in TARGETS}
    return found


def interval(values: np.ndarray, accuracy: np.ndarray) -> list[float] | None:
    """[correlation, its 2.5% and 97.5% quantiles over resampled sets]; None where either is the same for all sets."""
    if np.ptp(values) == 0 or np.ptp(accuracy) == 0:
        return None
    rows = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.nanquantile(spearman(values[rows], accuracy[rows]), (0.025, 0.975))
    return [float(spearman(values, accuracy)), float(low), float(high)]


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis; NaN where all values are the same."""
    ranks = [rankdata(values, axis=-1) for values in (first, second)]
    one, other = (each - each.mean(axis=-1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=-1) / np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))


def draw(found: dict[str, dict], path: pathlib.Path) -> None:
    """A panel a domain: each predictor's correlations with their intervals, the best predictor on top."""
    names = sorted(
        next(iter(found.values())), key=lambda name: np.mean([middle(part[name]) for part in found.values()])
    )
    with rc_context({**palette.STYLE, "font.size": 9}):
        figure = Figure(figsize=(palette.WIDE, 0.3 * len(names) + 1), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (domain, part) in zip(panels, found.items(), strict=True):
            for shift, colour, (target, label) in zip((0.25, 0, -0.25), palette.SERIES, TARGETS.items(), strict=False):
                shown = [(place, part[name][target]) for place, name in enumerate(names) if part[name][target]]
                places, triples = np.array([place for place, _ in shown]) + shift, np.array([each for _, each in shown])
                axes.hlines(places, triples[:, 1], triples[:, 2], color=colour, linewidth=1)
                axes.plot(triples[:, 0], places, "o", color=colour, markersize=4, label=label)
            axes.axvline(0, color=palette.MUTED, linewidth=0.8)
            axes.set(xlim=(-1.05, 1.05), title=domain, xlabel="rank correlation with test accuracy")
            axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], color=palette.INK)
            axes.grid(axis="x", color=palette.LINE, linewidth=0.5)
            axes.tick_params(length=0)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(TARGETS), frameon=False
        )
        figure.savefig(path, dpi=200, facecolor=palette.PAPER)


def middle(of_targets: dict) -> float:
    """The mean of a predictor's correlations; -1 where there is none."""
    return float(np.mean([each[0] if each else -1 for each in of_targets.values()]))


def table(found: dict[str, dict]) -> str:
    """Markdown: a line a predictor, a column a group of sets and target."""
    rows = [["", *(f"{group}, {label}" for group in found for label in TARGETS.values())]]
    for name in next(iter(found.values())):
        cells = [part[name][target] for part in found.values() for target in TARGETS]
        rows.append([name, *("-" if each is None else "{:.2f} ({:.2f} to {:.2f})".format(*each) for each in cells)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--cifar", help="CIFAR-10: train and test, class folders in each")
    parser.add_argument("--generated", help="class folders of generated images")
    given = parser.parse_args()
    domains = [domain for domain in SETS if domain != "photographs" or (given.cifar and given.generated)]
    groups = {domain: train(domain, make(domain, given), given.out) for domain in domains}
    lines = [line for some in groups.values() for line in some]
    (given.out / "sets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {domain: correlations(some) for domain, some in groups.items()}
    for domain, some in groups.items():
        if any(line["kind"] in BLIND for line in some):
            found[f"{domain}, labels right"] = correlations([line for line in some if line["kind"] not in BLIND])
    write_json(given.out / "correlations.json", found)
    print(table(found))
    draw({domain: found[domain] for domain in domains}, given.out / "set_measures.png")


if __name__ == "__main__":
    main()
