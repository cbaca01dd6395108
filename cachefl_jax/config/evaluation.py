"""What is measured of a model beside its accuracy."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import CHOOSE, NONE, SWITCH, one_of

# fmt: off
FIELDS = (
    Field("evaluation.drift", False, "measures how far a round's updates lie apart", *SWITCH, NONE),
    Field("evaluation.client_rows", "reweighted", "the test rows of a client: all, weighted by its shares of the "
          "classes; or a part of them, dealt by these shares", *one_of("reweighted", "dealt"), CHOOSE),
)
# fmt: on


EVALUATION = Part(FIELDS)
