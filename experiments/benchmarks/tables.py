"""The benchmark's results as Markdown tables, which a terminal shows as well."""

from collections.abc import Sequence

from cachefl_jax.report.table import aligned
from cachefl_jax.report.units import EMPTY, integer, percent, readable_bytes, readable_seconds, three_digits
from experiments.benchmarks.entrants import LABELS

STEADY = 1.3  # how many times the fastest run's median the slowest run's may be


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table from its heading and rows; the first column flush left, figures flush right."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rule = "|" + "|".join("-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)) + "|"
    text = ["| " + " | ".join(aligned(list(line), widths)) + " |" for line in lines]
    return "\n".join([text[0], rule, *text[1:]])


def engine_tables(results: dict) -> str:
    load = ", ".join(f"{value:.2f}" for value in results["machine"]["load_average_at_start"])
    parts = [f"{results['machine']['cores']} cores, load average at the start {load}"]
    parts += [job_table(job) for job in results["jobs"]]
    return "\n\n".join([*parts, limits_table(results), *unsteady(results)])


def unsteady(results: dict) -> list[str]:
    """A warning for everybody whose runs' medians differ much: something else ran at the time."""
    lines = []
    for job in results["jobs"]:
        for name, runs in job["runs"].items():
            medians = [run["median_s"] for run in runs]
            if max(medians) > STEADY * min(medians):
                span = f"{readable_seconds(min(medians))} to {readable_seconds(max(medians))}"
                lines.append(f"unsteady: {LABELS[name]} on {job['workload']}, {job['optimizer']}: medians of {span}")
    return lines


def job_table(job: dict) -> str:
    """Everybody on one workload and optimizer."""
    heading = ["median", "min", "first", "clients/s", "CPU/round", "memory", "x ours", "x ours by min"]
    lines = [[f"{job['workload']}, {job['optimizer']}", *heading]]
    for name, row in job["entrants"].items():
        times = [readable_seconds(row[field]) for field in ("median_s", "min_s", "first_round_s")]
        costs = [readable_seconds(row["cpu_s_per_round"]), readable_bytes(row["peak_bytes"])]
        ratios = [three_digits(row[field]) for field in ("times_ours_by_median", "times_ours_by_min")]
        lines.append([LABELS[name], *times, integer(row["clients_per_s"]), *costs, *ratios])
    return markdown(lines)


def limits_table(results: dict) -> str:
    """Ours against the machine, by the median round of a turn and the rates just before it."""
    lines = [["ours and the machine", "GFLOP/s", "of", "share", "GB/s", "of", "share", "binds"]]
    for job in results["jobs"]:
        near, cells = job["limits"], [f"{job['workload']}, {job['optimizer']}"]
        for rate in ("flops", "bytes"):
            reached = near.get(f"{rate}_per_s")
            cells.append(EMPTY if reached is None else three_digits(reached / 1e9))
            cells += [three_digits(near["rates"][f"{rate}_per_s"] / 1e9), percent(near.get(f"{rate}_share"))]
        lines.append([*cells, near["binds"]])
    return markdown(lines)


def scaling_table(title: str, points: Sequence[dict]) -> str:
    """One thing grown, a line a point."""
    lines = [[title, "round, median", "min", "a client", "memory beyond the data", "memory in all"]]
    for point in points:
        times = [readable_seconds(point[field]) for field in ("median_s", "min_s")]
        memory = [readable_bytes(point[field]) for field in ("beyond_data_bytes", "peak_bytes")]
        lines.append([point["name"], *times, f"{three_digits(1e6 * point['seconds_a_client'])} µs", *memory])
    return markdown(lines)
