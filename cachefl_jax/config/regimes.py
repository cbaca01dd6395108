"""What regimes beside the federation's own ask for: features that are sent once, and training on at each client."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import CHOOSE, NONE, RAISE, SWITCH, at_least, one_of

DTYPES = ("float32", "float16")

# fmt: off
REGIMES = Part((
    Field("features_once.dtype", "float32", "what features travel as where every site sends them once "
          "(NAME@features_once)", *one_of(*DTYPES), CHOOSE),
    Field("features_once.server_rows", True, "whether the server then trains on its own synthetic rows, too; a closed "
          "form says so itself", *SWITCH, NONE),
    Field("personal.epochs", 5, "how often each client goes through its rows after the last round, under "
          "NAME@fine_tuned", *at_least(1), RAISE),
))
