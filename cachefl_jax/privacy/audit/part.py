"""What an audit is given, and what it leaves: numbers for audit.json, and a section of audit.html."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

if TYPE_CHECKING:
    from cachefl_jax.federation import ServerState
    from cachefl_jax.simulation.build import Learner
    from cachefl_jax.simulation.prepare import Inputs
    from cachefl_jax.simulation.privacy import Budget


class Settings(NamedTuple):
    """What the command is told of an audit."""

    trials: int = 1000  # runs with a canary, and as many without
    shadows: int = 64  # federations on random halves of the rows
    seed: int = 0
    confidence: float = 0.95  # of each bound


class Context(NamedTuple):
    """A finished run."""

    config: ConfigDict  # that its rounds train by
    learner: "Learner"  # its arrays on the host, rows client after client
    inputs: "Inputs"  # in the bank's order
    state: "ServerState"  # after its last round
    budget: "Budget | None"  # of its noise; None: it promises nothing
    settings: Settings


class Table(NamedTuple):
    """Cells of text or of pictures; the first column names its row."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple]


class Section(NamedTuple):
    """A part's section of the page. A cell or a figure may be `markupsafe.Markup`, as `report.palette.chart` gives it;
    all else is escaped."""

    heading: str
    sentences: list[str]  # above the tables
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[Any, str]] = ()  # (picture, caption)


Part = Callable[[Context], tuple[dict, Section]]
