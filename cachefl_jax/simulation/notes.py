"""What whoever starts a command should know of the data, told on stderr."""

import contextlib
import contextvars
import sys
from collections.abc import Iterable, Iterator

TOLD: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar("told", default=None)


def tell(notes: Iterable[str]) -> None:
    """A line each, on stderr: only results go to stdout."""
    told = TOLD.get()
    for note in notes:
        if told is None or note not in told:
            print(f"note: {note}", file=sys.stderr)
        if told is not None:
            told.add(note)


def inside() -> bool:
    """Whether runs belong to a command that tells of itself, such as a proof of concept."""
    return TOLD.get() is not None


@contextlib.contextmanager
def each_once() -> Iterator[None]:
    """Within it, what was told is not told again: many runs on the same data have the same notes."""
    token = TOLD.set(set())
    try:
        yield
    finally:
        TOLD.reset(token)
