"""The headline in plain words, and what travelled: figures of one run turned into sentences and cells."""

from collections.abc import Sequence
from typing import NamedTuple

from cachefl_jax.report import table, units
from cachefl_jax.report.table import MethodRow
from cachefl_jax.report.workdir import Run


class Comparison(NamedTuple):
    """How far the run's method is from another one."""

    points: str  # "+34.0": the run's method less the other
    label: str  # of the other method
    accuracy: str  # of the other method


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


def main_row(run: Run) -> MethodRow:
    """The row of the method that the rounds trained; one without figures where the summary lacks it."""
    rows = {row.name: row for row in table.method_rows(run.summary)}
    return rows.get(run.method) or table.method_row(run.method, {}, None)


def headline(run: Run) -> str:
    """The one sentence at the top."""
    row = main_row(run)
    if row.test_accuracy is None:
        return f"{row.label}: no test accuracy was measured"
    sentence = f"{row.label} classifies {units.percent(row.test_accuracy)} of the test images correctly"
    if row.points is None:
        return f"{sentence}."
    return f"{sentence}, {gap(row.points)} {table.label('zero_shot')}."


def title(runs: Sequence[Run]) -> str:
    """The headline of the whole page."""
    if len(runs) == 1:
        return headline(runs[0])
    figures = sorted(row.test_accuracy for row in map(main_row, runs) if row.test_accuracy is not None)
    if not figures:
        return f"{len(runs)} runs compared"
    ends = dict.fromkeys(units.percent(figure) for figure in (figures[0], figures[-1]))
    return f"{len(runs)} runs compared: {' to '.join(ends)} of the test images classified correctly."


def gain(run: Run) -> str:
    """The run's method in one figure: points over zero-shot, or else its accuracy."""
    row = main_row(run)
    return units.percent(row.test_accuracy) if row.points is None else f"{units.points(row.points)} points"


def gap(difference: float) -> str:
    """0.34 -> "34.0 points above"; under a twentieth of a point is "level with"."""
    size = round(100 * abs(difference), 1)
    return "level with" if size == 0 else f"{size:.1f} points {'above' if difference > 0 else 'below'}"


def comparisons(run: Run) -> list[Comparison]:
    """The run's method against each of the others that has a test accuracy."""
    own = main_row(run).test_accuracy
    rows = [row for row in table.method_rows(run.summary) if row.name != run.method and row.test_accuracy is not None]
    if own is None:
        return []
    return [
        Comparison(units.points(own - row.test_accuracy), row.label, units.percent(row.test_accuracy)) for row in rows
    ]


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
    """How often a client took part, over all rounds after the untuned one; None where a round does not tell."""
    return total(*(row["cohort"] for row in run.rounds if row["round"] > 0))


def traffic(run: Run) -> list[Traffic]:
    """Up, down and both: the method beside sending the whole model each way."""
    row, model, times = main_row(run), model_bytes(run), client_rounds(run)
    up, down = (total(*(line[name] for line in run.rounds)) for name in ("bytes_up", "bytes_down"))
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
    """ "12.3 times less" than the whole model; None where either is not known, or nothing travels."""
    row, model = main_row(run), model_bytes(run)
    own = total(row.up, row.down)
    if not model or not own:
        return None
    ratio = 2 * model / own
    return f"{units.three_digits(max(ratio, 1 / ratio))} times {'less' if ratio >= 1 else 'more'}"


class ServerImages(NamedTuple):
    """What the cache was made of."""

    heading: str
    images: str


DRAWN = ServerImages("What the generator drew", "synthetic images, drawn on the server from words alone")
OTHER_IMAGES = {
    "held_out": ServerImages(
        "What the server held back", "real images set apart for the server, which no client holds"
    ),
    "image_folder": ServerImages("What the server was given", "images that the server was given, drawn elsewhere"),
}


def server_images(run: Run) -> ServerImages:
    """By synthesis.source of the run's config."""
    return OTHER_IMAGES.get((run.config.get("synthesis") or {}).get("source"), DRAWN)


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


def doubt(run: Run) -> str | None:
    """The standard error of the test accuracy, in words; None where it cannot be told."""
    share, rows = main_row(run).test_accuracy, units.number(run.summary["dataset"], "test")
    if share is None or not rows:
        return None
    error = (share * (1 - share) / rows) ** 0.5
    return f"{100 * error:.1f} points, from {rows:,} test rows"
