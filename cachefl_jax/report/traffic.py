"""What travelled and what it cost at a site: figures of one run turned into cells and bars."""

from typing import NamedTuple

from cachefl_jax.report import units
from cachefl_jax.report.rivals import best_rival
from cachefl_jax.report.table import main_row
from cachefl_jax.report.workdir import Run


class Traffic(NamedTuple):
    """Bytes in one direction or both, as pairs of a readable and an exact figure; None where not known."""

    direction: str
    one: tuple[str, str] | None  # the method, one client in one round
    one_model: tuple[str, str] | None  # the whole model instead
    all: tuple[str, str] | None  # the method, everybody, whole run
    all_model: tuple[str, str] | None


class Bar(NamedTuple):
    label: str
    figure: str
    share: float  # of the longest bar, in per cent


def pair(count: float | None) -> tuple[str, str] | None:
    return None if count is None else (units.readable_bytes(count), units.exact_bytes(count))


def total(*counts: float | None) -> float | None:
    return None if None in counts else sum(counts)


def model_bytes(run: Run) -> float | None:
    """Size of the whole model, one way; None where the run does not know its encoder."""
    return units.number(run.summary.get("whole_model") or {}, "bytes")


def model_name(run: Run) -> str | None:
    """What the whole model is called; None where the run does not know its encoder."""
    model = run.summary.get("whole_model")
    return None if model is None else str(model.get("name", "model"))


def client_rounds(run: Run) -> float | None:
    """How often a client took part, over all rounds after the untuned one; None where lines of metrics are missing."""
    return sum(row["cohort"] for row in run.rounds if row["round"] > 0) if every_round(run) else None


def every_round(run: Run) -> bool:
    """Whether metrics.jsonl has a line for round 0 and for each round that the summary tells of."""
    last = main_row(run).rounds
    return last is not None and [row["round"] for row in run.rounds] == list(range(int(last) + 1))


def traffic(run: Run) -> list[Traffic]:
    """Up, down and both: the method beside sending the whole model each way.

    What a whole run moved is known where metrics.jsonl has a line of every round.
    """
    row, model, times = main_row(run), model_bytes(run), client_rounds(run)
    up = down = None
    if every_round(run):
        up, down = (sum(line[name] for line in run.rounds) for name in ("bytes_up", "bytes_down"))
    directions = (("up, client to server", row.up, up, 1), ("down, server to client", row.down, down, 1),
                  ("both", total(row.up, row.down), total(up, down), 2))  # fmt: skip
    return [
        Traffic(
            direction=direction,
            one=pair(one),
            one_model=pair(model and ways * model),
            all=pair(everything),
            all_model=pair(None if model is None or times is None else ways * model * times),
        )
        for direction, one, everything, ways in directions
    ]


def bars(run: Run) -> list[Bar]:
    """One client's round, both ways: the method and the whole model, to scale. Empty where either is not known."""
    row, model = main_row(run), model_bytes(run)
    own = total(row.up, row.down)
    if not model or own is None:
        return []
    amounts = ((row.label, own), (f"the whole {model_name(run)}", 2 * model))
    longest = max(amount for _, amount in amounts)
    return [Bar(label, units.readable_bytes(amount), 100 * amount / longest) for label, amount in amounts]


def saving(run: Run) -> str | None:
    """ "12.3 times less" than the whole model, or "as many bytes as"; None where either is not known or is nothing."""
    row, model = main_row(run), model_bytes(run)
    own = total(row.up, row.down)
    if not model or not own:
        return None
    return times(2 * model / own)


def times(ratio: float) -> str:
    """ "12.3 times less" of what is that much smaller, "as much" where three digits show no difference."""
    if units.three_digits(ratio) == units.three_digits(1):
        return "as much"
    return f"{units.three_digits(max(ratio, 1 / ratio))} times {'less' if ratio >= 1 else 'more'}"


def against_rival(run: Run) -> str | None:
    """A sentence on the bytes of a whole run beside those of the best rival; None where either is not known."""
    best, own = best_rival(run), main_row(run).total
    if best is None or None in (own, best.total):
        return None
    amount = units.readable_bytes(best.total) if best.total else "nothing"
    told = f"{best.label}, the most accurate of the others, sends {amount} in all"
    if own and best.total:
        told += f": {times(own / best.total)}"
    return units.sentence(f"{told}.")


class SiteWork(NamedTuple):
    """Arithmetic at a client of average size, as readable FLOPs."""

    encoding: str  # its images, and their views, once by the frozen image tower
    training: str  # a round's epochs through the image tower, forward and backward, were that trained instead
    ratio: str | None  # of that to the method's own round; None where the method has none


def site_work(run: Run) -> SiteWork | None:
    """What encoding costs, and what training the encoder would; None where the run does not know its encoder."""
    model, dataset = run.summary.get("whole_model") or {}, run.summary["dataset"]
    forward, backward = (units.number(model, f"image_{way}_flops") for way in ("forward", "backward"))
    rows, clients = units.number(dataset, "train"), units.number(dataset, "clients")
    if None in (forward, backward, rows, clients) or not clients:
        return None
    epochs = units.number(run.config.get("local") or {}, "epochs") or 1
    views = units.number(run.config.get("clip") or {}, "train_views") or 1
    encoding, training = forward * rows / clients * views, (forward + backward) * rows / clients * epochs
    own = main_row(run).flops
    ratio = units.three_digits(training / own) if own else None
    return SiteWork(units.readable_flops(encoding), units.readable_flops(training), ratio)
