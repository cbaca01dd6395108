"""Accuracy against bytes of every encoding of updates, each a whole run, as a table and a picture.

    python -m experiments.benchmarks.compression --data=digits --out=runs/compression
    python -m experiments.benchmarks.compression --data=BANK.npz --out=runs/compression

Each run is one line of OUT/NAME.jsonl, three seeds of each encoding; the same command again goes on where it was
stopped. Accuracies are means over seeds, with standard deviations, and so are their differences to float32 of the same
seed. Beside the bytes of a client's update as it is packed stand those after an entropy coder, of the first client's
update from the last params.
"""

import argparse
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cachefl_jax import simulate
from cachefl_jax.compression import deflated, encoding_of, pack, write_leaf
from cachefl_jax.config import changed, resolve
from cachefl_jax.configs import digits, feature_bank
from cachefl_jax.federation.primal.client import sender, train_and_send
from cachefl_jax.federation.work import Client, Rows, Start
from cachefl_jax.report import palette
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.parts import component
from cachefl_jax.simulation.prepare import counted, prepare

SEEDS = 3
FEEDBACK = {"error_feedback": True}
SETTINGS = {  # fields of the group `updates`
    "float32": {},  # the change of the params as it is
    "float16": {"transforms": ("float16",)},
    **{f"quantize {bits}": {"transforms": ("quantize",), "bits": bits} for bits in (8, 4, 2, 1)},
    **{f"rotated {bits}": {"transforms": ("rotated_quantize",), "bits": bits} for bits in (4, 2, 1)},
    "rotated 1, feedback": {"transforms": ("rotated_quantize",), "bits": 1, **FEEDBACK},
    **{
        f"{name} {fraction:.0%}, feedback": {"transforms": (name,), "fraction": fraction, **FEEDBACK}
        for name in ("top_k", "random_k")
        for fraction in (0.1, 0.01)
    },
    "top_k 3% of 4 bits, feedback": {"transforms": ("top_k", "quantize"), "fraction": 0.03, "bits": 4, **FEEDBACK},
    **{f"low_rank {rank}, feedback": {"transforms": ("low_rank",), "rank": rank, **FEEDBACK} for rank in (4, 1)},
    "low_rank 1 of 4 bits, feedback": {"transforms": ("low_rank", "quantize"), "rank": 1, "bits": 4, **FEEDBACK},
    "own_classes": {"transforms": ("own_classes",)},
    "own_classes of 1 bit": {"transforms": ("own_classes", "rotated_quantize"), "bits": 1},
    "moved_keys": {"transforms": ("moved_keys",), "moved": 0.01, **FEEDBACK},
    "product 8": {"transforms": ("product_quantize",), "piece": 8, "codeword_bits": 6, **FEEDBACK},
}  # fmt: skip


def config_for(data: str, setting: dict, seed: int):
    """A run of CacheFL alone."""
    config = digits.get_config() if data == "digits" else feature_bank.get_config()
    config.methods, config.compare, config.overrides = ("cachefl",), (), ()
    config.engine.devices, config.seed = 1, seed
    if data != "digits":
        config.data.path = data
    return resolve(changed(config, {f"updates.{name}": value for name, value in setting.items()}))


def measured(config) -> dict:
    """The figures of one setting."""
    results = simulate(config, None)
    entry = results.summary["methods"]["cachefl"]
    up, validation = entry["uplink_bytes_per_client_round"], entry["validation_accuracy"]
    start = results.records[0]["test_accuracy"]  # nothing has travelled
    found = {"test": entry["test_accuracy"], "start": start, "validation": validation, "bytes": up}
    return found | {"deflated": entropy_coded(config, results.params)}


def entropy_coded(config, params) -> int:
    """Bytes of the first client's update from these params, after an entropy coder."""
    inputs = prepare(config)
    config = counted(config, inputs)
    learner, names = build(config, inputs), [name for name in config.updates.transforms if name != "clip"]
    codes = zip(names, component(config, "updates.transforms"), strict=True)
    encoding = encoding_of(tuple(transform.code(config.updates, "updates") for _, transform in codes))
    problem, plain = learner.problem, learner.federation._replace(transforms=())
    offsets = problem.clients.offsets
    rows = Rows(jnp.int32(offsets[0]), jnp.int32(offsets[1] - offsets[0]))

    def wires(params, problem):
        start = Start(params, (), problem, jnp.int32(config.rounds), problem.key)
        client = Client(jnp.int32(0), rows, ((), ()))
        update = train_and_send(plain, start, client).update
        found = []
        for leaf in jax.tree.leaves(update):
            found.append(write_leaf(encoding, leaf, encoding.choice.state(leaf.shape), sender(start, client, 0))[0])
        return found

    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    found = jax.jit(wires)(params, problem)
    return sum(deflated(pack(encoding, wire, shape)) for wire, shape in zip(found, shapes, strict=True))


def family(name: str) -> str:
    """What a setting's points are drawn as: its first encoding, or both where there are two."""
    return f"{name.split()[0]} and another" if " of " in name else name.split()[0]


def draw(tables: dict[str, dict[str, dict]], path: pathlib.Path) -> None:
    """Test accuracy over bytes, a panel for each of the data; an encoding's settings are one line."""
    families = list(dict.fromkeys(map(family, SETTINGS)))
    colours = [*palette.SERIES, *[palette.MUTED] * len(families)]
    with rc_context({**palette.STYLE, "font.size": 9}):
        figure = Figure(figsize=(palette.WIDE, 3.2 * len(tables)), layout="constrained")
        for axes, (data, rows) in zip(figure.subplots(len(tables), squeeze=False)[:, 0], tables.items(), strict=True):
            for at, kind in enumerate(families):
                own = sorted(
                    (row["bytes"], row["test"], row["spread"]) for name, row in rows.items() if family(name) == kind
                )
                if own:
                    size, test, spread = np.array(own).T
                    axes.errorbar(size, 100 * test, 100 * spread, marker="osD^vP*X<>h"[at % 11], color=colours[at],
                                  label=kind, linewidth=1, elinewidth=0.6, markersize=5)  # fmt: skip
            axes.set(xscale="log", xlabel="bytes that a client sends in a round", ylabel=f"{data}: test accuracy, %")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
        figure.savefig(path, dpi=200, facecolor=palette.PAPER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="digits, or the path of a feature bank")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    given = parser.parse_args()
    file = given.out / f"{pathlib.Path(given.data).stem}.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    done = read(file)
    for seed, (name, setting) in itertools.product(range(SEEDS), SETTINGS.items()):
        if (name, seed) not in done:
            row = {"setting": name, "seed": seed, **measured(config_for(given.data, setting, seed))}
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    tables = {path.stem: means(read(path)) for path in sorted(given.out.glob("*.jsonl"))}
    print(table(tables[file.stem]))
    draw(tables, given.out / "compression.png")


def read(file: pathlib.Path) -> dict[tuple[str, int], dict]:
    """The finished runs of a file by setting and seed."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {(line["setting"], line["seed"]): line for line in lines}


def means(runs: dict[tuple[str, int], dict]) -> dict[str, dict]:
    """Each setting's means over its seeds; `less` is what it has beyond float32, and `spread` a standard deviation."""
    found = {}
    for name in SETTINGS:
        seeds = [seed for setting, seed in runs if setting == name and ("float32", seed) in runs]
        if seeds:
            rows = [runs[name, seed] for seed in seeds]
            less = [runs[name, seed]["test"] - runs["float32", seed]["test"] for seed in seeds]
            means = {key: np.mean([row[key] for row in rows]) for key in ("test", "start", "bytes", "deflated")}
            found[name] = means | {"less": np.mean(less), "spread": deviation([row["test"] for row in rows])}
            found[name] |= {"less_spread": deviation(less), "seeds": len(seeds)}
    return found


def deviation(numbers: list[float]) -> float:
    """The standard deviation of a sample; 0 of one."""
    return np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0


def table(rows: dict[str, dict]) -> str:
    """Markdown: the fewest bytes last."""
    lines = ["| encoding | test accuracy, % | less float32, points | bytes | times fewer | after DEFLATE |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["bytes"]):
        test, less = (f"{100 * row[key]:{sign}.2f} ± {100 * row[spread]:.2f}" for key, sign, spread in (
            ("test", "", "spread"), ("less", "+", "less_spread")))  # fmt: skip
        fewer = rows["float32"]["bytes"] / row["bytes"]
        lines.append(f"| {name} | {test} | {less} | {row['bytes']:,.0f} | {fewer:.1f} | {row['deflated']:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
