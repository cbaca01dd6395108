"""Studies that the commands know by name: --config=studies/NAME."""

from cachefl_jax.config.method import METHODS

# Of these every step takes images or texts through a tower; a study of features can do without them.
TOWERS = ("prompt_fl", "fed_tpg", "lora", "visual_prompt", "full_fine_tuning")
ON_FEATURES = tuple(name for name in METHODS if name not in ("zero_shot", "cachefl", *TOWERS))
ROWS = ("zero_shot", "cache_init", "cachefl", *ON_FEATURES, "local_only", "centralized", "features_once")
