"""What the feature store holds: a table of it, a check of every byte, and room made in it.

    python -m experiments.features list
    python -m experiments.features verify
    python -m experiments.features prune [--older_than_days=30] [--keep_gib=10] [--all]

The store is ``features/`` in $CACHEFL_HOME, or in ~/.cache/cachefl_jax. `verify` ends with status 1 where something is
damaged. `prune` removes what was not used for so many days, and of the rest what was used longest ago until so many GiB
are left; with --all everything. What a run that was stopped left behind counts as well; what a run is computing stays.
"""

import sys
import time
from collections.abc import Sequence

from absl import flags

from cachefl_jax.errors import UsageError
from experiments import command

ACTIONS = ("list", "verify", "prune")
MIB = 2**20


def define_flags() -> None:
    flags.DEFINE_float("older_than_days", None, "prune: what was not used for so many days", lower_bound=0)
    flags.DEFINE_float("keep_gib", None, "prune: what exceeds so many GiB, the last used being kept", lower_bound=0)
    flags.DEFINE_boolean("all", False, "prune: everything")


def take_action(argv: list[str]) -> str | None:
    """Removes the word that says what to do from the command line, and returns it."""
    return argv.pop(1) if len(argv) > 1 and not argv[1].startswith("-") else None


def act(action: str | None) -> None:
    """Does what the word says.

    Raises:
        UsageError: there is no such word, or nothing says what to prune.
    """
    if action not in ACTIONS:
        raise UsageError("command line", action or "nothing to do", " | ".join(ACTIONS), "add one of them")
    from cachefl_jax.data.feature_entries import entries

    found = entries()
    if action == "list":
        print(table(found))
    elif action == "verify":
        verify(found)
    else:
        prune(found)


def table(found: Sequence) -> str:
    """The entries as a table, the last used first, and their sum."""
    lines = [["features", "rows x D", "MiB", "encoder", "views", "made", "last used"], *map(row, found)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    total = sum(entry.byte_count for entry in found)
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*text, f"{len(found)} entries, {total / MIB:.1f} MiB"])


def row(entry) -> list[str]:
    """An entry's line."""
    manifest = entry.manifest
    arrays = list(manifest.get("arrays", {}).values())
    shapes = ", ".join(" x ".join(map(str, array["shape"])) for array in arrays)
    made_of, about = manifest.get("made_of", {}), manifest.get("about", {})
    views = made_of.get("views")
    return [
        manifest.get("what", entry.folder.name) + ("" if entry.whole else " (not finished)"),
        shapes or "-",
        f"{entry.byte_count / MIB:.1f}",
        str(about.get("encoder") or str(made_of.get("weights", "-"))[:12]),
        f"{views['count']}, {views['use']}" if views else "-",
        manifest.get("made_at", "-")[:16].replace("T", " "),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
    ]


def verify(found: Sequence) -> None:
    """Reads every byte of what is whole; status 1 if one is not as it was written."""
    from cachefl_jax.data.feature_entries import faults

    whole = [entry for entry in found if entry.whole]
    damaged = {entry.folder: faults(entry) for entry in whole}
    for folder, told in damaged.items():
        for fault in told:
            print(f"{folder}: {fault}; delete the folder and it is computed again")
    count = sum(map(bool, damaged.values()))
    print(f"{len(whole)} entries, {count} damaged; {len(found) - len(whole)} not finished")
    if count:
        sys.exit(1)


def prune(found: Sequence) -> None:
    """Deletes what the flags name, and says what that freed."""
    from cachefl_jax.data.feature_entries import delete, remove_locks, to_prune

    days, gib, everything = (flags.FLAGS[name].value for name in ("older_than_days", "keep_gib", "all"))
    if days is None and gib is None and not everything:
        wanted = "--older_than_days, --keep_gib or --all"
        raise UsageError("prune", "nothing that says what to delete", wanted, "add one of them")
    freed = 0
    for entry in found if everything else to_prune(found, days, gib):
        name = f"{row(entry)[0]}, {entry.byte_count / MIB:.1f} MiB, {entry.folder}"
        gone = delete(entry)
        freed += entry.byte_count * gone
        print(f"deleted {name}" if gone else f"kept, a run is computing it: {name}")
    remove_locks()
    print(f"{freed / MIB:.1f} MiB freed")


if __name__ == "__main__":
    chosen = take_action(sys.argv)
    define_flags()
    command.run(lambda: act(chosen))
