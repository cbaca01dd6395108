"""Who holds what: the clients x classes picture, and the partition in figures."""

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cachefl_jax.data.card import Cells, distances, effective_classes
from cachefl_jax.report import captions, palette, units
from cachefl_jax.report.workdir import Run

CELL = np.array([0x1F, 0x6F, 0xBF]) / 255  # a blue that stands out on white and on black alike
MOST_DOTS = (210, 350)  # clients and classes that the picture keeps apart
MOST_NAMED = 40  # clients or classes with a tick each; more are counted instead
LONGEST_NAME = 20  # letters
ROW = 15  # points a client, where they are few
HASH_SHOWN = 16  # hexadecimal digits, enough to tell any two partitions that somebody compares


def shown(run: Run, name: str) -> dict[str, Any]:
    """What the page shows of a run's partition: the picture, how it is read, and its figures; of a pilot's sites what
    they told the server."""
    if run.cells is None:
        facts = [(site["name"], f"{site['rows']:,} samples, in {site['rounds']:,} rounds") for site in run.sites]
        return {"how": captions.SITES, "chart": None, "facts": facts, "terms": ""}
    return {
        "how": captions.holdings(run, is_pooled(run.cells)),
        "chart": holdings_chart(run, name),
        "facts": partition_facts(run.cells, run.card),
        "terms": captions.terms(run),
    }


def holdings_chart(run: Run, name: str) -> Markup:
    """Clients down, classes along, samples as depth of colour; each client's total as a bar."""
    cells = run.cells
    facts = "; ".join(f"{fact}: {figure}" for fact, figure in partition_facts(cells))
    description = f"Samples of {cells.classes} classes at {cells.clients} clients. {facts}."
    return palette.chart(name, description, lambda width: draw(width, cells, run.class_names, run.client_names))


def partition_facts(cells: Cells, card: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """What the picture shows, in figures; and from the card of a run that wrote one, how it came about.

    Effective classes and distances are those of `cachefl_jax.data.card`. Clients without samples have none and are left
    out of them.
    """
    sizes = cells.sizes
    holding = sizes > 0
    facts = [
        ("clients", units.integer(cells.clients)),
        ("classes", units.integer(cells.classes)),
        ("samples", units.integer(sizes.sum())),
        ("samples a client: least / median / most", spread_of(sizes, "{:,.0f}")),
        ("clients without samples", units.integer((~holding).sum())),
    ]
    if holding.any():
        totals = np.bincount(cells.label, weights=cells.count, minlength=cells.classes)
        variation = distances(cells, totals)["total_variation"]
        means = f"{variation[holding].mean():.2f} / {np.average(variation, weights=sizes):.2f}"
        effective = spread_of(effective_classes(cells)[holding], "{:.1f}")
        facts += [
            ("effective classes a client: least / median / most", effective),
            ("distance to all labels: mean over clients / over samples", means),
        ]
    return facts + (card_facts(card) if card else [])


def card_facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    """What only the card tells."""
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card["settings"].items())
    seed = "" if card["seed"] is None else f"; seed {card['seed']}"
    extent = "" if card["change_strength"] is None else f", up to {card['change_strength']:g} of 1"
    return [
        ("scheme", f"{card['scheme']}{' (' + told + ')' if told else ''}{seed}"),
        (f"samples moved so that each client has {card['least']:,}", units.integer(card["repairs"])),
        ("changes to clients' training images", card["change"] + extent),
        (f"partition's hash (first {HASH_SHOWN} digits)", card["hash"][:HASH_SHOWN]),
    ]


def spread_of(values: np.ndarray, form: str) -> str:
    return " / ".join(form.format(value) for value in (values.min(), np.median(values), values.max()))


def strength(counts: np.ndarray, most: int) -> np.ndarray:
    """Depth of colour, 0 to 1: the square root of the share of the largest cell, so that few still show."""
    return np.where(counts > 0, 0.15 + 0.85 * np.sqrt(counts / max(1, most)), 0)


def is_pooled(cells: Cells) -> bool:
    """Whether the picture has fewer dots than there are cells."""
    return cells.clients > MOST_DOTS[0] or cells.classes > MOST_DOTS[1]


def pooled(cells: Cells) -> np.ndarray:
    """The cells in at most ``MOST_DOTS`` blocks, each the largest of its cells, so that no cell is lost."""
    shape = tuple(map(min, (cells.clients, cells.classes), MOST_DOTS))
    blocks = np.zeros(shape, np.int64)
    place = (block_of(cells.client, cells.clients, shape[0]), block_of(cells.label, cells.classes, shape[1]))
    np.maximum.at(blocks, place, cells.count)
    return blocks


def block_of(places: np.ndarray, along: int, blocks: int) -> np.ndarray:
    """Which of ``blocks`` near-equal blocks each of ``places``, 0 to ``along`` - 1, falls into."""
    starts = np.linspace(0, along, blocks, endpoint=False).astype(int)
    return np.searchsorted(starts, places, side="right") - 1


def draw(width: float, cells: Cells, names: list[str], client_names: list[str]) -> Figure:
    clients, classes = cells.clients, cells.classes
    along = [palette.shortened(name, LONGEST_NAME) for name in names] if classes <= MOST_NAMED else []
    upright = max(map(len, along), default=0) * 6 > 72 * 0.6 * width / classes
    below = 34 + (5.2 * max(map(len, along)) if upright and along else 10)
    rows = float(np.clip(ROW * clients, 60, 420))
    above = 34
    height = (rows + below + above) / 72
    figure = Figure(figsize=(width, height))
    longest = LONGEST_NAME if width > 6 else LONGEST_NAME // 2
    beside = [palette.shortened(name, longest) for name in client_names] if clients <= MOST_NAMED else []
    room = 5.2 / 72 * max(map(len, beside), default=0)
    left, split, end = (0.5 + room) / width, 0.77 - 0.05 * (width < 6), 0.995 - 0.42 / width
    base, extent = below / 72 / height, rows / 72 / height
    table = figure.add_axes((left, base, split - left, extent))
    bars = figure.add_axes((split + 0.012, base, end - split - 0.012, extent), sharey=table)
    draw_cells(table, cells)
    if beside:
        table.set_yticks(range(clients), beside)
    if clients <= MOST_NAMED and 72 * width * (split - left) / classes > 14:
        write_counts(table, cells, size=8 if width > 6 else 7)
    else:
        draw_scale(figure, (left + 0.4 / width, base + extent + 9 / 72 / height, 1.1 / width, 7 / 72 / height), cells)
    name_classes(table, along, classes, upright)
    draw_sizes(bars, cells.sizes)
    return figure


def blue(depth: np.ndarray) -> np.ndarray:
    """``depth`` [C, N] as opacity of one blue, [C, N, 4], which reads on a light page and on a dark one."""
    return np.concatenate([np.broadcast_to(CELL, (*depth.shape, 3)), depth[..., None]], axis=-1)


def largest(cells: Cells) -> int:
    return int(cells.count.max(initial=1))


def draw_cells(axes: Axes, cells: Cells) -> None:
    clients, classes = cells.clients, cells.classes
    box = (-0.5, classes - 0.5, clients - 0.5, -0.5)
    axes.imshow(blue(strength(pooled(cells), largest(cells))), aspect="auto", interpolation="none", extent=box)
    if max(clients, classes) <= MOST_NAMED:
        axes.hlines(np.arange(clients + 1) - 0.5, -0.5, classes - 0.5, color=palette.LINE, linewidth=0.5)
        axes.vlines(np.arange(classes + 1) - 0.5, -0.5, clients - 0.5, color=palette.LINE, linewidth=0.5)
    axes.spines[:].set_visible(True)
    axes.set_ylabel("client", rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(-0.36 / axes.get_position().width / axes.figure.get_figwidth(), 1.015)
    few = clients <= MOST_NAMED
    axes.set_yticks(range(clients)) if few else axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.tick_params(length=0, labelsize=8.5)


def write_counts(axes: Axes, cells: Cells, size: float) -> None:
    depths = strength(cells.count, largest(cells))
    for client, label, count, depth in zip(cells.client, cells.label, cells.count, depths, strict=True):
        colour = "#fffffe" if depth > 0.8 else palette.INK  # white in both themes
        axes.text(label, client, f"{count}", ha="center", va="center_baseline", size=size, color=colour)


def name_classes(axes: Axes, names: list[str], classes: int, upright: bool) -> None:
    axes.set_xlabel("class" if names else "class (by its number)")
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    elif upright:
        axes.set_xticks(range(classes), names, rotation=90, ha="right", va="center", rotation_mode="anchor")
    else:
        axes.set_xticks(range(classes), names)


def draw_sizes(axes: Axes, sizes: np.ndarray) -> None:
    """Samples a client as bars, with their figures where there is room; of many clients the fullest of each block."""
    clients, most = len(sizes), max(1, int(sizes.max()))
    if clients <= MOST_NAMED:
        axes.barh(np.arange(clients), sizes, height=0.7, color=palette.MUTED)
    else:
        blocks = min(clients, MOST_DOTS[0])
        starts = np.linspace(0, clients, blocks, endpoint=False).astype(int)
        fullest = np.maximum.reduceat(sizes, starts)
        edges = np.append(starts, clients) - 0.5
        axes.fill_betweenx(edges, np.append(fullest, fullest[-1]), step="post", color=palette.MUTED, linewidth=0)
    axes.set_xlim(0, most)
    axes.set_title("samples", size=9.5, color=palette.MUTED, loc="left", pad=6)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    if clients <= MOST_NAMED:
        style = {"va": "center_baseline", "size": 8.5, "color": palette.INK, "clip_on": False}
        for client, size in enumerate(sizes):
            axes.text(size + 0.03 * most, client, f"{size:,}", **style)
    else:
        axes.tick_params(bottom=True, labelbottom=True, labelsize=8.5)
        axes.set_xticks([0, most])


def draw_scale(figure: Figure, place: tuple[float, float, float, float], cells: Cells) -> None:
    """The key to the colours: from one sample to the largest cell."""
    most = largest(cells)
    axes = figure.add_axes(place)
    axes.imshow(blue(strength(np.linspace(1, most, 64)[None], most)), aspect="auto", interpolation="none")
    axes.set_axis_off()
    style = {"va": "center_baseline", "size": 8.5, "color": palette.MUTED, "transform": axes.transAxes}
    for place_along, text, side in ((-0.04, "1", "right"), (1.04, f"{most:,} samples", "left")):
        axes.text(place_along, 0.5, text, ha=side, **style)
