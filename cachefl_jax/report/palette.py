"""The report's colours, light and dark, and matplotlib figures turned into SVG that follows them."""

import io
import re
import warnings
from collections.abc import Callable

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Light and dark value of each colour; page.css sees them as --ink and so on. The series keep their distance under
# the common colour-vision deficiencies, and each has a contrast of 4.5 or more to its paper.
THEME = {
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1c2127", "#e9ebee"),
    "muted": ("#58626d", "#a5aeb8"),
    "line": ("#d4d9df", "#3a4149"),
    "wash": ("#f4f6f8", "#1d2226"),
    "blue": ("#0065a8", "#62b5f2"),
    "orange": ("#b34a00", "#f2974f"),
    "green": ("#007556", "#41c99c"),
    "purple": ("#93397a", "#e293c9"),
    "ochre": ("#7d6200", "#dcbc3f"),
    "slate": ("#3d5163", "#b9c8d6"),
}
INK, MUTED, LINE, PAPER, BLUE = (THEME[name][0] for name in ("ink", "muted", "line", "paper", "blue"))
SERIES_NAMES = ("blue", "orange", "green", "purple", "ochre", "slate")  # of the runs, in their order
SERIES = tuple(THEME[name][0] for name in SERIES_NAMES)
SPARE = "muted"  # marks the rows of runs beyond these colours

WIDE, NARROW = 9.2, 4.0  # inches; the page shows one or the other, by the width of the window
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
STYLE = {
    "svg.fonttype": "none",  # text stays text: the reader's own fonts, searchable, small
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def run_colour(index: int) -> str:
    """The colour that marks what is of run `index`; no two runs share one of the series."""
    return SERIES_NAMES[index] if index < len(SERIES_NAMES) else SPARE


def shortened(text: str, most: int) -> str:
    """``text`` in at most ``most`` letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def chart(name: str, description: str, draw: Callable[[float], Figure]) -> Markup:
    """Both widths of a figure as inline SVG; page.css shows the one that fits.

    Args:
        name: unlike that of any other chart on the page; the ids inside are made from it.
        description: what the picture shows, for those who cannot see it.
        draw: makes the figure from its width in inches.
    """
    wide = svg(f"{name}-wide", description, lambda: draw(WIDE))
    narrow = svg(f"{name}-narrow", description, lambda: draw(NARROW))
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def svg(name: str, description: str, draw: Callable[[], Figure]) -> Markup:
    """A figure as inline SVG: colours that follow the page, ids of its own, the same bytes each time."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser brings its own fonts, so what matplotlib's lacks (a class name in Chinese) is no fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        file = io.StringIO()
        draw().savefig(file, format="svg", transparent=True, metadata=NO_METADATA, dpi=200)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # never referred to, and the same in every figure
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    for colour, (light, _) in THEME.items():
        text = text.replace(light, f"var(--{colour})")
    size = re.search(r'viewBox="[^"]*"', text).group()
    head = Markup('<svg {} role="img" aria-label="{}">').format(Markup(size), escape(description))
    return head + Markup(text[text.index(">") + 1 :])
