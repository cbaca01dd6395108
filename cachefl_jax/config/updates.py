"""What happens to the clients' updates on their way to the server: transforms of each, and their aggregation."""

from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, all_named, finite, one_named, within

TRANSFORMS = {name: f"cachefl_jax.federation.transforms:{name}" for name in ("clip", "noise")}
AGGREGATIONS = {
    name: f"cachefl_jax.federation.aggregation:{name}" for name in ("mean", "uniform", "sum", "median", "trimmed_mean")
}

# fmt: off
FIELDS = (
    Field("updates.transforms", (), "what happens to a client's update before it is aggregated, in this order",
          *all_named(TRANSFORMS), CHOOSE),
    Field("updates.clip_norm", 1.0, "clip: the largest L2 norm of a client's update",
          *finite(0, open_end=True), FINITE, traced=True),
    Field("updates.noise", 0.0, "noise: the standard deviation that each client adds to each number of its update",
          *finite(0), FINITE, traced=True),
    Field("aggregation.name", "mean", "how updates become one: mean weighted by rows, uniform mean, sum, or by "
          "coordinate their median or trimmed mean (arXiv 1803.01498)", *one_named(AGGREGATIONS), CHOOSE),
    Field("aggregation.trim", 0.1, "trimmed_mean: the share of the clients that is cut at each end",
          *within(0, 0.5), "0 cuts nobody"),
)
# fmt: on


UPDATES = Part(
    FIELDS,
    unused=(
        Unused(("updates.clip_norm",), lambda config: "clip" in config.updates.transforms, "updates.transforms"),
        Unused(("updates.noise",), lambda config: "noise" in config.updates.transforms, "updates.transforms"),
        only(("aggregation.trim",), "aggregation.name", "trimmed_mean"),
    ),
)
