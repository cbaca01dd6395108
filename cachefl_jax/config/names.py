"""Our components by name, and where the object of each lies. `cachefl_jax.named.find` takes these tables."""

METHODS = {name: f"cachefl_jax.methods:{name}" for name in ("cachefl", "zero_shot")}
ALGORITHMS = {name: f"cachefl_jax.federation.algorithms:{name}" for name in ("fedavg", "scaffold", "fednova")}
PARTICIPATIONS = {name: f"cachefl_jax.federation.participation:{name}" for name in ("cohort", "full", "poisson")}
TRANSFORMS = {name: f"cachefl_jax.federation.transforms:{name}" for name in ("clip", "noise")}
AGGREGATIONS = {
    name: f"cachefl_jax.federation.aggregation:{name}" for name in ("mean", "uniform", "sum", "median", "trimmed_mean")
}
