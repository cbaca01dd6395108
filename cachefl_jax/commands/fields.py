"""Lists the fields of a config: default, meaning, and what each may be.

    python -m experiments.fields [WORD ...] [--config=FILE] [--config.method=NAME ...]

With words, only the fields whose names begin with one of them, such as local or data.shots. The fields that a user's
components bring are listed where the config file or the flags name these.
"""

import sys

from cachefl_jax.commands import command
from cachefl_jax.commands.named_flags import config_on
from cachefl_jax.config.components import own_fields
from cachefl_jax.config.listing import listing


def take_words(argv: list[str]) -> list[str]:
    """Removes the words that are no flags from the command line, and returns them."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    argv[1:] = [word for word in argv[1:] if word.startswith("-")]
    return words


def start() -> None:
    words = take_words(sys.argv)
    given, sys.argv[1:] = [*sys.argv], [word for word in sys.argv[1:] if not word.startswith("--config")]
    command.run(lambda: print(listing(words, own_fields(config_on(given)))))
