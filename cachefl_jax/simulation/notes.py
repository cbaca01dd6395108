"""What whoever starts a command should know of the data, told on stderr."""

import sys
from collections.abc import Iterable


def tell(notes: Iterable[str]) -> None:
    """A line each, on stderr: only results go to stdout."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
