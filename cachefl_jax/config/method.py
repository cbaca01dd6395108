"""What is trained, and what it is compared with. cache.alpha and cache.beta are CacheFL's; keys_per_class is how many
of the server's images every method gets."""

from cachefl_jax.config.field import Field, Part
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, TEXTS, any_of, at_least, finite, one_named

METHODS = {
    name: f"cachefl_jax.methods.{name}:{name}"
    for name in (
        "cachefl",
        "zero_shot",
        "class_directions",
        "linear_probe",
        "task_res",
        "clip_adapter",
        "fed_clip",
        "lp_plus_plus",
        "local_prototypes",
        "prompt_fl",
        "fed_tpg",
        "ncm",
        "gda",
        "ridge",
        "fed_cof",
        "fed_pft",
        "full_fine_tuning",
        "lora",
        "visual_prompt",
        "cachefl_personal",
        "cachefl_residual",
    )
}
METHODS |= {
    f"cache_{part}": f"cachefl_jax.methods.cache_variants:cache_{part}" for part in ("values", "low_rank", "vector")
}
METHODS |= {f"cache_{part}": f"cachefl_jax.methods.cache_channels:cache_{part}" for part in ("channels", "scale")}
RIVALS = [name for name in METHODS if name not in ("cachefl", "zero_shot")]  # they bring their own fields
TRAINED = {name: place for name, place in METHODS.items() if name != "zero_shot"}  # which has nothing to train
METHOD_NAMES = ("zero_shot", "cache_init", "cachefl", "local_only", "centralized")


# fmt: off
METHOD = Part((
    Field("method", "cachefl", "what is trained", *one_named(TRAINED), CHOOSE),
    Field("methods", METHOD_NAMES, "what is compared, instead of compare; at its default compare counts. Without it "
          "these follow method",
          *any_of(*METHOD_NAMES), "drop the others from the list"),
    Field("compare", (), "what is compared: methods, each as NAME, NAME@alone, NAME@centralized, NAME@round_0, "
          "NAME@features_once or NAME@fine_tuned; zero_shot; cache_init, local_only, centralized, features_once and "
          "fine_tuned of method. () = methods",
          *TEXTS, NONE),
    Field("overrides", (), "values that rows have of their own, each as 'ROW: field=value'; ROW is a word of compare, "
          "and a method's name stands for all its rows", *TEXTS, NONE),
    Field("cache.keys_per_class", 16, "keys of a class in the cache", *at_least(1), "raise it to 1 or more"),
    Field("cache.alpha", 1.0, "weight of the cache's logits beside CLIP's (residual ratio)",
          *finite(), FINITE, traced=True),
    Field("cache.beta", 5.0, "sharpness of the affinities", *finite(), FINITE, traced=True),
))
