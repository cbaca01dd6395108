"""How long a run is, how often it evaluates and saves, and what it measures."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import CHOOSE, NONE, RAISE, SWITCH, any_of, at_least, one_of

# fmt: off
RUN = Part((
    Field("seed", 0, "what all that is drawn at random comes from: partition, images, batches",
          lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295", "choose another"),
    Field("rounds", 20, "rounds of the federation", *at_least(0), "0 evaluates the untuned cache"),
    Field("eval_every", 1, "rounds between two evaluations", *at_least(1), RAISE),
    Field("checkpoint_every", 10, "rounds between two checkpoints", *at_least(1), RAISE),
    Field("writers", (), "where a run's metrics go beside metrics.jsonl: TensorBoard, Weights & Biases; each needs its "
          "package", *any_of("tensorboard", "wandb"), "drop the others from the list"),

    Field("evaluation.drift", False, "measures how far a round's updates lie apart", *SWITCH, NONE),
    Field("evaluation.client_rows", "reweighted", "the test rows of a client: all, weighted by its shares of the "
          "classes; a part of them, dealt by these shares; or those of its own site",
          *one_of("reweighted", "dealt", "site"), CHOOSE),
))
