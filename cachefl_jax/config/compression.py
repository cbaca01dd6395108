"""What travels in fewer bytes, up and down: names of `updates.transforms` and `downloads.transforms`, their numbers,
and what does not go with them."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, RAISE, SWITCH, all_named, at_least, between, finite
from cachefl_jax.config.rows import row_of, words_of
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError

CHOICES = {name: f"cachefl_jax.compression:{name}"
           for name in ("top_k", "random_k", "low_rank", "own_classes", "moved_keys")}  # fmt: skip
NUMBERS = {name: f"cachefl_jax.compression:{name}"
           for name in ("float16", "bfloat16", "quantize", "rotated_quantize", "product_quantize")}  # fmt: skip
CODES = CHOICES | NUMBERS
MEASURED = ("own_classes", "moved_keys")  # their bytes depend on the update
DOWNLOADS = {name: place for name, place in CODES.items() if name not in MEASURED}
BY_CLASS = ("cachefl", "cachefl_personal", "linear_probe", "task_res")  # the first axis of whose params is the class


def check(config: ConfigDict) -> None:
    """Whether the encodings are such, and go with what else the run does with an update."""
    check_order("updates", config.updates.transforms)
    check_order("downloads", config.downloads.transforms)
    encoded = [name for name in config.updates.transforms if name in CODES]
    if config.updates.error_feedback:
        check_feedback(config, encoded)
    if encoded and config.aggregation.name in SECURE:
        allowed = f"no encoding with aggregation.name={config.aggregation.name}, which adds up whole numbers of its own"
        raise UsageError("updates.transforms", encoded[0], f"{allowed} (secure.bits)", "leave it out")
    if encoded and config.privacy.mechanism == "local":
        allowed = "no encoding with privacy.mechanism=local: its noise comes last, and needs all bits"
        raise UsageError("updates.transforms", encoded[0], allowed, "leave it out, or privacy.mechanism=gaussian")
    if "own_classes" in encoded:
        if config.privacy.mechanism == "dpsgd":
            allowed = "no own_classes with privacy.mechanism=dpsgd: its bits tell of a client's rows without any noise"
            raise UsageError("updates.transforms", "own_classes", allowed, "leave it out")
        check_classes(config)


def check_order(group: str, names: tuple[str, ...]) -> None:
    """Whether an encoding is one: a choice of what is sent and a way to write numbers, each at most once."""
    field, places = f"{group}.transforms", [at for at, name in enumerate(names) if name in CODES]
    found = [names[at] for at in places]
    if places and places[-1] - places[0] >= len(places):
        between_them = next(name for name in names[places[0] :] if name not in CODES)
        raise UsageError(field, between_them, f"before or after {' and '.join(found)}", "move it")
    for kind, what in ((CHOICES, "chooses what is sent"), (NUMBERS, "writes numbers")):
        of_kind = [name for name in found if name in kind]
        if len(of_kind) > 1:
            raise UsageError(field, of_kind[1], f"one that {what}; {of_kind[0]} does", "leave one out")
    if len(found) > 1 and found[0] in NUMBERS:
        raise UsageError(field, found[1], f"before {found[0]}, which writes the numbers of what is sent", "swap them")
    if places and "noise" in names[places[-1] :]:
        raise UsageError(field, "noise", f"before {found[0]}: noise on what was read needs all bits again", "swap them")


def check_feedback(config: ConfigDict, encoded: list[str]) -> None:
    """Whether a residual may come with the next update."""
    field, mend = "updates.error_feedback", "leave it out"
    if not encoded:
        allowed = f"with an encoding in updates.transforms: {', '.join(CODES)}"
        raise UsageError(field, True, allowed, "updates.transforms=('top_k',), or leave it out")
    if "own_classes" in encoded:
        allowed = "False with own_classes: what is of other classes would wait for ever"
        raise UsageError(field, True, allowed, mend)
    if config.privacy.mechanism != "none" or "noise" in config.updates.transforms:
        allowed = "False with noise for privacy: what a residual adds, no norm bounds"
        raise UsageError(field, True, allowed, mend)


def check_classes(config: ConfigDict) -> None:
    """Whether the params of all that is trained lie by class."""
    methods = [row_of(config.method, word).method for word in words_of(config)]
    for method in (str(config.method), *methods):
        if method not in (*BY_CLASS, "zero_shot"):
            allowed = f"with params by class, those of {', '.join(BY_CLASS)}; {method} has others"
            raise UsageError("updates.transforms", "own_classes", allowed, "leave it out, or the method")


def numbers(group: str) -> tuple[Field, ...]:
    """The fields of one way, updates up or downloads down."""
    return (
        Field(f"{group}.bits", 8, "quantize, rotated_quantize: bits of a number", *at_least(1, 8), "1, 2, 4 or 8"),
        Field(f"{group}.fraction", 0.01, "top_k, random_k: the share of the numbers that is sent",
              *between(0, 1, closed=True), CHOOSE),
        Field(f"{group}.rank", 4, "low_rank: of the two factors that are sent (PowerSGD, arXiv 1905.13727)",
              *at_least(1), RAISE),
        Field(f"{group}.piece", 8, "product_quantize: numbers that one codeword stands for", *at_least(1), RAISE),
        Field(f"{group}.codeword_bits", 8, "product_quantize: the codebook has 2^codeword_bits words",
              *at_least(1, 12), "1 to 12"),
    )  # fmt: skip


def unused(group: str) -> tuple[Unused, ...]:
    """Which names give them meaning."""
    field = f"{group}.transforms"

    def one(name: str, *names: str) -> Unused:
        return Unused((f"{group}.{name}",), lambda config: set(names) & set(config[group].transforms), field)

    return (
        one("bits", "quantize", "rotated_quantize"), one("fraction", "top_k", "random_k"), one("rank", "low_rank"),
        one("piece", "product_quantize"), one("codeword_bits", "product_quantize"),
    )  # fmt: skip


# fmt: off
COMPRESSION = Part((
    *numbers("updates"),
    Field("updates.moved", 0.01, "moved_keys: a key is sent that moved further, L2", *finite(0), FINITE, traced=True),
    Field("updates.error_feedback", False, "what an encoding loses, a client adds to its next update (arXiv "
          "1901.09847)", *SWITCH, NONE),
    Field("downloads.transforms", (), "how the change of the params travels to the clients; what is lost comes with "
          "the next round", *all_named(DOWNLOADS), CHOOSE),
    *numbers("downloads"),
), check, (
    *unused("updates"), *unused("downloads"),
    Unused(("updates.moved",), lambda config: "moved_keys" in config.updates.transforms, "updates.transforms"),
))
