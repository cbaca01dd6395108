"""What each part against curious servers, hostile clients and slow lines costs: accuracy, bytes and time, in one table.

    python -m experiments.benchmarks.defences --out=runs/defences.jsonl

The demo's digits, CacheFL alone, 100 rounds of all 20 clients on one device by `scan`, three seeds. Each run is a line
of the file; the same command again goes on where it was stopped. Nothing but the named fields differs, and nothing is
tuned for a part: what noise costs falls with the number of clients, which are few here.
"""

import argparse
import itertools
import json
import pathlib
import statistics

from cachefl_jax import simulate
from cachefl_jax.config import changed, resolve
from cachefl_jax.configs import digits

SEEDS = 3
FEEDBACK = {"updates.error_feedback": True}


def private(mechanism: str, norm: float, rule: str = "uniform") -> dict:
    """Noise for epsilon 8 over all rounds, at this bound of an update or, with `dpsgd`, of an example's gradient."""
    fields = {"mechanism": mechanism, "epsilon": 8.0, "clip_norm": norm, "accountant": "rdp"}
    return {f"privacy.{name}": value for name, value in fields.items()} | {"aggregation.name": rule}


PARTS = {
    "none of it": {},
    "noise at the server, epsilon 8": private("gaussian", 0.1),
    "correlated noise at the server, epsilon 8": private("matrix", 0.1),
    "noise at each client, epsilon 8": private("local", 0.1),
    "noise in each step (DP-SGD), epsilon 8": private("dpsgd", 0.1),
    "secure sum of 24 bits": {"aggregation.name": "secure_uniform"},
    "secure sum with a share of noise each, epsilon 8": private("distributed", 0.1, "secure_uniform"),
    "8 bits a number": {"updates.transforms": ("quantize",), "updates.bits": 8},
    "1 bit a number, rotated": {"updates.transforms": ("rotated_quantize",), "updates.bits": 1},
    "the largest 3% at 4 bits, feedback": FEEDBACK
    | {"updates.transforms": ("top_k", "quantize"), "updates.fraction": 0.03, "updates.bits": 4},
    **{
        rule.replace("_", " "): {"aggregation.name": rule}
        for rule in ("median", "multi_krum", "geometric_median", "fools_gold")
    },
    "centred clipping": {"aggregation.name": "centred_clipping", "aggregation.radius": 0.3},
    "8 bits a number, multi-Krum": {
        "updates.transforms": ("quantize",), "updates.bits": 8, "aggregation.name": "multi_krum",
    },
}  # fmt: skip


def measured(fields: dict, seed: int) -> dict:
    """The figures of one run."""
    config = digits.get_config()
    config.methods, config.compare, config.overrides = ("cachefl",), (), ()
    config.rounds = config.eval_every = config.checkpoint_every = 100
    config.engine.devices, config.engine.strategy, config.seed = 1, "scan", seed
    entry = simulate(resolve(changed(config, fields)), None).summary["methods"]["cachefl"]
    names = {"test": "test_accuracy", "up": "uplink_bytes_per_client_round", "seconds": "seconds_per_round"}
    return {name: entry[key] for name, key in names.items()}


def table(lines: list[dict]) -> str:
    """Markdown: a row a part, means over seeds; times as ratios of the run without any."""
    rows = ["| part | test accuracy, % | bytes up, a client and round | a round's time, x |", "|---|---:|---:|---:|"]
    plain = statistics.median(line["seconds"] for line in lines if line["part"] == next(iter(PARTS)))
    for part in PARTS:
        runs = [line for line in lines if line["part"] == part]
        if runs:
            tests = [100 * line["test"] for line in runs]
            spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
            seconds = statistics.median(line["seconds"] for line in runs)
            rows.append(f"| {part} | {statistics.mean(tests):.1f} ± {spread:.1f} | {runs[0]['up']:,.0f} "
                        f"| {seconds / plain:.1f} |")  # fmt: skip
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    done = {(line["part"], line["seed"]) for line in lines}
    for seed, (part, fields) in itertools.product(range(SEEDS), PARTS.items()):
        if (part, seed) not in done:
            lines.append({"part": part, "seed": seed, **measured(fields, seed)})
            with out.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
