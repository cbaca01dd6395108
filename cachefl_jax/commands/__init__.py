"""The command line: `cachefl NAME ...` of an installed package, `python -m experiments.NAME ...` of a checkout."""

import importlib
import sys

NAMES = ("run", "sweep", "evaluate", "synthesize", "features", "report", "fields")


def main() -> None:
    """`cachefl`: the first word names the command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in NAMES:
        print(f"cachefl COMMAND [--help]: COMMAND is one of {', '.join(NAMES)}", file=sys.stderr)
        sys.exit(0 if name in ("--help", "-h", "help") else 2)
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    importlib.import_module(f"cachefl_jax.commands.{name}").start()
