"""How long a run is, and how often it looks up."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import RAISE, at_least

# fmt: off
FIELDS = (
    Field("seed", 0, "what all that is drawn at random comes from: partition, images, batches",
          lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295", "choose another"),
    Field("rounds", 20, "rounds of the federation", *at_least(0), "0 evaluates the untuned cache"),
    Field("eval_every", 1, "rounds between two evaluations", *at_least(1), RAISE),
    Field("checkpoint_every", 10, "rounds between two checkpoints", *at_least(1), RAISE),
)
# fmt: on


RUN = Part(FIELDS)
