"""How much a study spends on each row of its table. A single run has no use for it."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import RAISE, at_least
from cachefl_jax.errors import UsageError


def check(config: ConfigDict) -> None:
    """Whether values are chosen on seeds that the study has, all of them in a seed's range."""
    study = config.study
    if study.tuning_seeds > study.seeds:
        allowed = f"1 to study.seeds, {study.seeds}"
        raise UsageError("study.tuning_seeds", study.tuning_seeds, allowed, "lower it, or raise study.seeds")
    if config.seed + study.seeds > 2**32:
        allowed = f"at most {2**32 - config.seed:,} from seed={config.seed} on"
        raise UsageError("study.seeds", study.seeds, allowed, "lower it, or lower seed")


# fmt: off
STUDY = Part((
    Field("study.seeds", 3, "runs of each row with its chosen values, by the seeds from config.seed on", *at_least(1),
          RAISE),
    Field("study.tuning_seeds", 1, "how many of these seeds values are chosen on, by their validation rows alone",
          *at_least(1), RAISE),
    Field("study.budget", 24, "points that are tried of each row: half all over its search space, then beside the best "
          "so far", *at_least(1), RAISE),
), check)
