"""What `cachefl poc` is asked beside the run itself: the time it may take, what to compare with, prices. A single run
has no use for it."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import CHOOSE, NONE, RAISE, TEXT, at_least, finite, one_of

ORIGINS = ("unknown", "generated", "real")


def shots(value) -> bool:
    """Whether these texts are numbers of images, each once, in ascending order."""
    numbers = [int(each) for each in value if each.isdecimal() and int(each)]
    return len(numbers) == len(value) and numbers == sorted(set(numbers))


# fmt: off
POC = Part((
    Field("poc.minutes", 10.0, "wall-clock minutes to plan for: tuning gets what the other stages leave, which take "
          "what they take", *finite(0.1), "raise it"),
    Field("poc.most_points", 24, "points that are tried of each row, however much time there is", *at_least(1), RAISE),
    Field("poc.current", "", "a CSV file with the columns file and prediction: the model that you have now", *TEXT,
          NONE),
    Field("poc.shots", ("1", "2", "4", "8", "16"), "images a class and site of the learning curve", shots,
          "whole numbers above 0, ascending", NONE),
    Field("poc.synthetic_origin", "unknown", "who made the images of synthesis.path", *one_of(*ORIGINS), CHOOSE),
))
