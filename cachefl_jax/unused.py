"""Settings of a config that do nothing, because another setting leaves them no part: said, so that nobody believes that
they had an effect."""

from ml_collections import ConfigDict

from cachefl_jax.config import default, lookup, rows_of
from cachefl_jax.config.fields import PARTS
from cachefl_jax.config.synthesis import SHIPPED


def idle(config: ConfigDict) -> set[str]:
    """The fields that do nothing in this config, at whatever value, because of another field's."""
    return {field for part in PARTS for rule in part.unused if not rule.matter(config) for field in rule.fields}


def unused(config: ConfigDict) -> list[str]:
    """A sentence for each field that decides: what, away from its default, does nothing because of it."""
    usual, idle = default(), {}
    for rule in (rule for part in PARTS for rule in part.unused):
        if not rule.matter(config):
            values = {field: (lookup(usual, field), SHIPPED.get(field)) for field in rule.fields}
            changed = [field for field in rule.fields if lookup(config, field) not in values[field]]
            idle.setdefault(rule.decided_by, []).extend(changed)
    untrained = "compare has no row that is trained: rounds, method and what goes with them do nothing."
    return [untrained] * trains_nothing(config) + [
        f"{', '.join(f'{field}={lookup(config, field)}' for field in fields)} "
        f"{'does' if len(fields) == 1 else 'do'} nothing under {decider}={lookup(config, decider)}."
        for decider, fields in idle.items()
        if fields
    ]


def trains_nothing(config: ConfigDict) -> bool:
    """Whether all that is compared is scored as the server made it, although there are rounds."""
    return config.rounds > 0 and all(row.regime in ("zero_shot", "round_0") for row in rows_of(config))
