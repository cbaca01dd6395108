"""Lists the fields of a config: default, meaning, and what each may be.

    python -m experiments.fields [WORD ...]

With words, only the fields whose names begin with one of them, such as local or data.shots.
"""

import sys

from cachefl_jax.commands import command
from cachefl_jax.config.listing import listing


def take_words(argv: list[str]) -> list[str]:
    """Removes the words that are no flags from the command line, and returns them."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    argv[1:] = [word for word in argv[1:] if word.startswith("-")]
    return words


def start() -> None:
    chosen = take_words(sys.argv)
    command.run(lambda: print(listing(chosen)))
