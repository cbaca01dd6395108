"""The command line: `cachefl NAME ...` of an installed package, `python -m experiments.NAME ...` of a checkout."""

import ast
import difflib
import importlib
import os
import pathlib
import re
import sys

from cachefl_jax.errors import UsageError

NAMES = (
    "run", "sweep", "study", "poc", "evaluate", "predict", "explain", "export", "synthesize", "features", "audit",
    "server", "site", "report", "fields",
)  # fmt: skip
INSTALLED, CHECKOUT = "cachefl ", "python -m experiments."


def main() -> None:
    """`cachefl`: the first word names the command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in NAMES:
        sys.path.append(os.getcwd())  # modules of the user's are found there, as by python -m
        sys.argv = [INSTALLED + name, *sys.argv[2:]]
        importlib.import_module(f"cachefl_jax.commands.{name}").start()
    elif name in ("--help", "-h", "help"):
        print(overview())
    else:
        guess = difflib.get_close_matches(name, NAMES, 1)
        mend = f"did you mean {guess[0]}?" if guess else "cachefl --help tells what each does"
        print(UsageError("command", name, " | ".join(NAMES), mend), file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """What each command does."""
    files = {name: pathlib.Path(__file__).with_name(f"{name}.py") for name in NAMES}
    purposes = {name: ast.get_docstring(ast.parse(file.read_text("utf-8"))) for name, file in files.items()}
    lines = [f"    {name:<12}{purpose.splitlines()[0]}" for name, purpose in purposes.items()]
    return "\n".join(["cachefl COMMAND [--help]", "", *lines])


def called(name: str) -> str:
    """A command in the way in which this one was called."""
    return (INSTALLED if sys.argv[0].startswith(INSTALLED) else CHECKOUT) + name


def as_called(text: str) -> str:
    """A text that quotes commands and configs of a checkout, in the way in which this command was called."""
    if called("") == CHECKOUT:
        return text
    return re.sub(r"experiments/configs/([\w/]+)\.py", r"\1", text.replace(CHECKOUT, INSTALLED))
