"""A sweep's points by validation accuracy: those that a user may choose among, apart from those that are no choice.

What a user is given makes a setting: the data, who holds what, how many clients take part in a round, and what hostile
ones do. Points of one setting are scored on the same kind of rows and may be ranked; points of two are not
alternatives. Everything else (the encoder, the synthetic set, the cache, the optimizers, the number of rounds) is a
choice. Seeds are averaged over, and fields that do not change what is learnt, or have one value in all points, tell no
points apart.
"""

import collections

from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.errors import UsageError
from cachefl_jax.unused import idle

SETTING = ("data.", "partition.", "participation.", "cohort", "hostile.")
NO_CHOICE = ("seed", "methods", "compare", "eval_every", "checkpoint_every", "evaluation.", "engine.")


def ranking(results: list[dict], configs: list[ConfigDict]) -> str:
    """A table for each setting, best validation accuracy first, the mean over seeds; test accuracy is not looked at.

    Args:
        results: the lines of results.jsonl.
        configs: the resolved configs of all points, in the points' order.
    """
    settings = settings_of(results, configs)
    tables = [table(points) for points in settings.values()]
    if not any(tables):
        return "no point has a validation accuracy: nothing to rank by"
    heads = [f"{setting}\n" if setting else "" for setting in settings]
    return "\n\n".join(head + (lines or "no validation accuracy") for head, lines in zip(heads, tables, strict=True))


def settings_of(results: list[dict], configs: list[ConfigDict]) -> dict[str, dict[str, list[dict]]]:
    """The lines of results.jsonl by setting and, within it, by point without its seed; both in words.

    The one setting of a sweep that varies none is called "".

    Raises UsageError: a line tells of a field that no config has."""
    swept = dict.fromkeys(field for row in results for field in row["overrides"])  # in the order of the sweep
    swept = [field for field in swept if not field.startswith(NO_CHOICE)]
    if any(not any(has(config, field) for config in configs) for field in swept):
        mend = "delete the lines of results.jsonl that name others, and repeat the sweep's command"
        raise UsageError("sweep: overrides", ", ".join(swept), "fields of the config", mend)
    swept = [field for field in swept if len({repr(has(one, field) and lookup(one, field)) for one in configs}) > 1]
    given = [field for field in swept if field.startswith(SETTING)]
    chosen = [field for field in swept if field not in given]
    settings = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in results:
        config = configs[row["point"]]
        settings[values(config, given)][values(config, chosen) or "the config as it is"].append(row)
    return settings


def has(config: ConfigDict, field: str) -> bool:
    """Whether it is a field of this config."""
    try:
        lookup(config, field)
    except (KeyError, AttributeError, TypeError):
        return False
    return True


def values(config: ConfigDict, fields: list[str]) -> str:
    """These fields of a config, in words; those that do nothing in it, or that only other points' parts have, are left
    out."""
    nothing = idle(config)
    told = [field for field in fields if has(config, field) and field not in nothing]
    return ", ".join(f"{field}={lookup(config, field)}" for field in told)


def table(points: dict[str, list[dict]]) -> str:
    """The points of one setting with their scores, best first, then those that diverged; empty if none has a score."""
    from cachefl_jax.report.sweep import ranked  # at the end of a sweep, which need not wait for matplotlib before

    told = [
        (f"{'diverged':>10s}" if point.validation is None else f"{point.validation:10.4f}", point)
        for point in ranked(points)
        if point.validation is not None or point.note
    ]
    lines = [f"{score}  {point.runs:4d}  {point.name}" for score, point in told]
    return "\n".join(["validation  runs  point", *lines]) if lines else ""
