"""Who holds what: the clients x classes picture, and the partition in figures."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cachefl_jax.report import palette, units
from cachefl_jax.report.workdir import Run

CELL = np.array([0x1F, 0x6F, 0xBF]) / 255  # a blue that stands out on white and on black alike
MOST_DOTS = (210, 350)  # clients and classes that the picture keeps apart
MOST_NAMED = 40  # clients or classes with a tick each; more are counted instead
LONGEST_NAME = 20  # letters
ROW = 15  # points a client, where they are few


def holdings_chart(run: Run, name: str) -> Markup:
    """Clients down, classes along, samples as depth of colour; each client's total as a bar."""
    counts = run.class_counts
    facts = "; ".join(f"{fact}: {figure}" for fact, figure in partition_facts(counts))
    description = f"Samples of {counts.shape[1]} classes at {len(counts)} clients. {facts}."
    return palette.chart(name, description, lambda width: draw(width, counts, run.class_names))


def partition_facts(counts: np.ndarray) -> list[tuple[str, str]]:
    """What the picture shows, in figures, of ``counts`` [C, N].

    The effective number of classes is exp(entropy) of a client's label distribution: N where it holds all alike, 1
    where it holds one only. Clients without samples have none and are left out of it.
    """
    sizes = counts.sum(axis=1)
    holding = counts[sizes > 0]
    facts = [
        ("clients", units.integer(len(counts))),
        ("classes", units.integer(counts.shape[1])),
        ("samples", units.integer(sizes.sum())),
        ("samples a client: least / median / most", spread_of(sizes, "{:,.0f}")),
        ("clients without samples", units.integer((sizes == 0).sum())),
    ]
    if len(holding):
        facts.append(
            ("effective classes a client: least / median / most", spread_of(effective_classes(holding), "{:.1f}"))
        )
    return facts


def effective_classes(counts: np.ndarray) -> np.ndarray:
    """exp(entropy) of each row of ``counts`` [C, N], none of them empty: [C] between 1 and N."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(np.where(shares > 0, shares, 1))
    return np.exp(-(shares * logs).sum(axis=1))


def spread_of(values: np.ndarray, form: str) -> str:
    return " / ".join(form.format(value) for value in (values.min(), np.median(values), values.max()))


def strength(counts: np.ndarray) -> np.ndarray:
    """Depth of colour, 0 to 1, [C, N]: the square root of the share of the largest cell, so that few still show."""
    share = np.sqrt(counts / max(1, counts.max()))
    return np.where(counts > 0, 0.15 + 0.85 * share, 0)


def is_pooled(counts: np.ndarray) -> bool:
    """Whether the picture of ``counts`` [C, N] has fewer dots than there are cells."""
    return counts.shape[0] > MOST_DOTS[0] or counts.shape[1] > MOST_DOTS[1]


def pooled(counts: np.ndarray) -> np.ndarray:
    """``counts`` [C, N] in at most ``MOST_DOTS`` blocks, each the largest of its cells, so that no cell is lost."""
    for axis, most in enumerate(MOST_DOTS):
        starts = np.unique(np.linspace(0, counts.shape[axis], most, endpoint=False).astype(int))
        counts = np.maximum.reduceat(counts, starts, axis=axis)
    return counts


def draw(width: float, counts: np.ndarray, names: list[str]) -> Figure:
    clients, classes = counts.shape
    along = [palette.shortened(name, LONGEST_NAME) for name in names] if classes <= MOST_NAMED else []
    upright = max(map(len, along), default=0) * 6 > 72 * 0.6 * width / classes
    below = 34 + (5.2 * max(map(len, along)) if upright and along else 10)
    rows = float(np.clip(ROW * clients, 60, 420))
    above = 34
    height = (rows + below + above) / 72
    figure = Figure(figsize=(width, height))
    left, split, end = 0.5 / width, 0.77 - 0.05 * (width < 6), 0.995 - 0.42 / width
    base, extent = below / 72 / height, rows / 72 / height
    cells = figure.add_axes((left, base, split - left, extent))
    bars = figure.add_axes((split + 0.012, base, end - split - 0.012, extent), sharey=cells)
    draw_cells(cells, counts)
    if clients <= MOST_NAMED and 72 * width * (split - left) / classes > 14:
        write_counts(cells, counts, size=8 if width > 6 else 7)
    else:
        draw_scale(figure, (left + 0.4 / width, base + extent + 9 / 72 / height, 1.1 / width, 7 / 72 / height), counts)
    name_classes(cells, along, classes, upright)
    draw_sizes(bars, counts.sum(axis=1))
    return figure


def blue(depth: np.ndarray) -> np.ndarray:
    """``depth`` [C, N] as opacity of one blue, [C, N, 4], which reads on a light page and on a dark one."""
    return np.concatenate([np.broadcast_to(CELL, (*depth.shape, 3)), depth[..., None]], axis=-1)


def draw_cells(axes: Axes, counts: np.ndarray) -> None:
    clients, classes = counts.shape
    box = (-0.5, classes - 0.5, clients - 0.5, -0.5)
    axes.imshow(blue(strength(pooled(counts))), aspect="auto", interpolation="none", extent=box)
    if max(clients, classes) <= MOST_NAMED:
        axes.hlines(np.arange(clients + 1) - 0.5, -0.5, classes - 0.5, color=palette.LINE, linewidth=0.5)
        axes.vlines(np.arange(classes + 1) - 0.5, -0.5, clients - 0.5, color=palette.LINE, linewidth=0.5)
    axes.spines[:].set_visible(True)
    axes.set_ylabel("client", rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(-0.36 / axes.get_position().width / axes.figure.get_figwidth(), 1.015)
    few = clients <= MOST_NAMED
    axes.set_yticks(range(clients)) if few else axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.tick_params(length=0, labelsize=8.5)


def write_counts(axes: Axes, counts: np.ndarray, size: float) -> None:
    depth = strength(counts)
    for client, label in zip(*np.nonzero(counts), strict=True):
        colour = "#fffffe" if depth[client, label] > 0.8 else palette.INK  # white in both themes
        axes.text(label, client, f"{counts[client, label]}", ha="center", va="center_baseline", size=size, color=colour)


def name_classes(axes: Axes, names: list[str], classes: int, upright: bool) -> None:
    axes.set_xlabel("class" if names else "class (by its number)")
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    elif upright:
        axes.set_xticks(range(classes), names, rotation=90, ha="right", va="center", rotation_mode="anchor")
    else:
        axes.set_xticks(range(classes), names)


def draw_sizes(axes: Axes, sizes: np.ndarray) -> None:
    """Samples a client as bars, with their figures where there is room."""
    if len(sizes) <= MOST_NAMED:
        axes.barh(np.arange(len(sizes)), sizes, height=0.7, color=palette.MUTED)
    else:
        edges = np.arange(len(sizes) + 1) - 0.5
        axes.fill_betweenx(edges, np.append(sizes, sizes[-1]), step="post", color=palette.MUTED, linewidth=0)
    axes.set_xlim(0, max(1, sizes.max()))
    axes.set_title("samples", size=9.5, color=palette.MUTED, loc="left", pad=6)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    if len(sizes) <= MOST_NAMED:
        for client, size in enumerate(sizes):
            axes.text(
                size + 0.03 * sizes.max(),
                client,
                f"{size:,}",
                va="center_baseline",
                size=8.5,
                color=palette.INK,
                clip_on=False,
            )
    else:
        axes.tick_params(bottom=True, labelbottom=True, labelsize=8.5)
        axes.set_xticks([0, int(sizes.max())])


def draw_scale(figure: Figure, place: tuple[float, float, float, float], counts: np.ndarray) -> None:
    """The key to the colours: from one sample to the largest cell."""
    most = max(1, int(counts.max()))
    axes = figure.add_axes(place)
    ramp = strength(np.linspace(1 / most, 1, 64)[None] * most)
    axes.imshow(blue(ramp), aspect="auto", interpolation="none")
    axes.set_axis_off()
    for place_along, text, side in ((-0.04, "1", "right"), (1.04, f"{most:,} samples", "left")):
        axes.text(
            place_along,
            0.5,
            text,
            ha=side,
            va="center_baseline",
            size=8.5,
            color=palette.MUTED,
            transform=axes.transAxes,
        )
