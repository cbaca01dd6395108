"""Tells what CACHEFL_HOME holds, checks every byte of it, and makes room in it.

    python -m experiments.features list
    python -m experiments.features verify
    python -m experiments.features prune [--older_than_days=30] [--keep_gib=10] [--all]

Features, drawn sets, prompts, compiled programs, plans, verdicts on images and digests of files lie in $CACHEFL_HOME,
or in ~/.cache/cachefl_jax. `verify` ends with status 1 where something is damaged. `prune` removes what was not used
for so many days, and of the rest what was used longest ago until so many GiB are left; with --all everything. What a
run that was stopped left behind counts as well; what a run is computing stays.
"""

import collections
import math
import sys
import time
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.home import CHECKED, COMPILED, DIGESTS, FEATURES, FOLDERS, PARTIAL, PLANS, PROMPTS, SYNTHETIC

ACTIONS = ("list", "verify", "prune")
MIB = 2**20
CALLED = {  # what lies in each store
    FEATURES: "features",
    SYNTHETIC: "synthetic sets",
    PROMPTS: "sets of prompts",
    COMPILED: "compiled programs",
    PLANS: "plans",
    CHECKED: "verdicts on images",
    DIGESTS: "digests of files",
}


def define_flags() -> None:
    flags.DEFINE_float("older_than_days", None, "prune: what was not used for so many days", lower_bound=0)
    flags.DEFINE_float("keep_gib", None, "prune: what exceeds so many GiB, the last used being kept", lower_bound=0)
    flags.DEFINE_boolean("all", False, "prune: everything")


def take_action(argv: list[str]) -> str | None:
    """Removes the word that says what to do from the command line, and returns it."""
    return argv.pop(1) if len(argv) > 1 and not argv[1].startswith("-") else None


def act(action: str | None) -> None:
    """Does what the word says. Raises UsageError: there is no such word, or nothing says what to prune."""
    if action not in ACTIONS:
        raise UsageError("command line", action or "nothing to do", " | ".join(ACTIONS), "add one of them")
    from cachefl_jax.storage.entries import all_entries

    found = all_entries()
    if action == "list":
        print(listed(found))
    elif action == "verify":
        verify(found)
    else:
        prune(found)


def listed(found: Sequence) -> str:
    """Tables of the features, of the drawn sets, of prompts, and of what each kind takes."""
    features, drawn, prompts = ([entry for entry in found if entry.kind == kind] for kind in FOLDERS)
    heading = ["features", "rows x D", "MiB", "encoder", "views", "made", "last used"]
    parts = [table([heading, *map(feature_row, features)])]
    if drawn:
        heading = ["synthetic sets", "classes", "images", "MiB", "pipeline", "last used"]
        parts.append(table([heading, *map(drawn_row, drawn)]))
    if prompts:
        parts.append(table([["sets of prompts", "model", "MiB", "made", "last used"], *map(prompts_row, prompts)]))
    return "\n\n".join([*parts, totals(found)])


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, every column as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def totals(found: Sequence) -> str:
    """Entries and MiB of every kind, and their sums."""
    count, size = collections.Counter(), collections.Counter()
    for entry in found:
        count[entry.kind] += 1
        size[entry.kind] += entry.byte_count
    lines = [["in CACHEFL_HOME", "entries", "MiB"]]
    lines += [[CALLED[kind], str(count[kind]), f"{size[kind] / MIB:.1f}"] for kind in CALLED]
    return "\n".join([table(lines), f"{count.total()} entries, {size.total() / MIB:.1f} MiB"])


def feature_row(entry) -> list[str]:
    """The line of an entry of features."""
    manifest = entry.manifest
    arrays = list(manifest.get("arrays", {}).values())
    shapes = ", ".join(" x ".join(map(str, array["shape"])) for array in arrays)
    made_of, about = manifest.get("made_of", {}), manifest.get("about", {})
    views = made_of.get("views")
    return [
        title(entry),
        shapes or "-",
        f"{entry.byte_count / MIB:.1f}",
        str(about.get("encoder") or str(made_of.get("weights", "-"))[:12]),
        f"{views['count']}, {views['use']}" if views else "-",
        manifest.get("made_at", "-")[:16].replace("T", " "),
        moment(entry.used),
    ]


def drawn_row(entry) -> list[str]:
    """The line of a drawn set."""
    seeds, names = (entry.manifest.get(name) for name in ("seeds", "class_names"))
    images = sum(map(len, seeds)) if isinstance(seeds, list) and all(isinstance(row, list) for row in seeds) else "-"
    classes = len(names) if isinstance(names, list) else "-"
    pipeline = str(entry.manifest.get("pipeline", "-"))
    return [title(entry), str(classes), str(images), f"{entry.byte_count / MIB:.1f}", pipeline, moment(entry.used)]


def prompts_row(entry) -> list[str]:
    """The line of a set of prompts."""
    model, made = str(entry.manifest.get("about", {}).get("model", "-")), entry.manifest.get("made_at", "-")
    return [title(entry), model, f"{entry.byte_count / MIB:.1f}", made[:16].replace("T", " "), moment(entry.used)]


def title(entry) -> str:
    """What an entry is called."""
    name = entry.folder.name.removeprefix(".").removesuffix(PARTIAL)
    return str(entry.manifest.get("what", name)) + ("" if entry.whole else " (not finished)")


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def verify(found: Sequence) -> None:
    """Reads every byte of what is whole; status 1 if one is not as it was written."""
    whole = [entry for entry in found if entry.whole]
    damaged = 0
    for entry in whole:
        told = faults_of(entry)
        damaged += bool(told)
        for fault in told:
            print(f"{entry.folder}: {fault}; delete it and it is made again")
    print(f"{len(whole)} entries, {damaged} damaged; {len(found) - len(whole)} not finished")
    if damaged:
        sys.exit(1)


def faults_of(entry) -> list[str]:
    """What is wrong with a whole entry of any kind."""
    from cachefl_jax.storage.entries import faults
    from cachefl_jax.synthesis.verify import verify as verify_set

    return verify_set(entry.folder).faults if entry.kind == SYNTHETIC else faults(entry)


def prune(found: Sequence) -> None:
    """Deletes what the flags name and what killed processes left, and says what that freed."""
    from cachefl_jax.storage.entries import delete, remove_remains, to_prune

    days, gib, everything = (flags.FLAGS[name].value for name in ("older_than_days", "keep_gib", "all"))
    if days is None and gib is None and not everything:
        wanted = "--older_than_days, --keep_gib or --all"
        raise UsageError("prune", "nothing that says what to delete", wanted, "add one of them")
    for name, value in (("--older_than_days", days), ("--keep_gib", gib)):
        if value is not None and math.isnan(value):
            raise UsageError(name, value, "a number, 0 or more", "correct it")
    freed, files = 0, {kind: [0, 0] for kind in CALLED}
    for entry in found if everything else to_prune(found, days, gib):
        gone = delete(entry)
        freed += entry.byte_count * gone
        if entry.kind in FOLDERS or not gone:
            name = f"{title(entry)}, {entry.byte_count / MIB:.1f} MiB, {entry.folder}"
            print(f"deleted {name}" if gone else f"kept, a run is computing it: {name}")
        else:  # of small files only their number
            files[entry.kind] = [files[entry.kind][0] + 1, files[entry.kind][1] + entry.byte_count]
    for kind, (count, size) in files.items():
        if count:
            print(f"deleted {count} {CALLED[kind]}, {size / MIB:.1f} MiB")
    remove_remains()
    print(f"{freed / MIB:.1f} MiB freed")


def start() -> None:
    chosen = take_action(sys.argv)
    define_flags()
    command.run(lambda: act(chosen))
