"""How the training rows are dealt to clients."""

from collections.abc import Callable

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, NONE, RAISE, TEXT, at_least, between, distinct, finite, one_of
from cachefl_jax.errors import UsageError

HEEDED = {  # the schemes that deal rows out, each with the fields of its group that it heeds
    "iid": (),
    "dirichlet": ("over", "concentration"),
    "pathological": ("classes_per_client",),
    "shards": ("shards_per_client",),
    "quantity": ("quantity", "spread", "concentration"),
}
SCHEMES = {name: f"cachefl_jax.data.schemes:{name}" for name in HEEDED}
FOUND = {"natural": "sites in the data", "given": "clients in the file"}  # these bring their own clients
OVER = {"classes": "cachefl_jax.data.schemes:by_class", "clients": "cachefl_jax.data.mixes:mixes"}
QUANTITIES = {
    "log_normal": "cachefl_jax.data.schemes:log_normal",
    "power_law": "cachefl_jax.data.schemes:power_law",
    "dirichlet": "cachefl_jax.data.schemes:dirichlet_shares",
}
KINDS = ("brightness", "contrast", "blur", "noise", "rotation", "jpeg")
CHANGES = {name: f"cachefl_jax.data.skew:{name}" for name in KINDS}


def check(config: ConfigDict) -> None:
    """Whether there are clients."""
    partition = config.partition
    if not partition.clients and partition.name not in FOUND:
        raise UsageError("partition.clients", 0, "a whole number, 1 or more", "0 is for partitions natural and given")
    if partition.name == "given" and not partition.path:
        mend = "--config.partition.path=FILE, such as another run's"
        raise UsageError("partition.path", "", "a partition.npz, for partition.name=given", mend)


def heeds(field: str) -> Callable[[ConfigDict], bool]:
    """Whether the partition's scheme reads `field` of its group."""
    return lambda config: field in HEEDED.get(config.partition.name, ())


def heeds_number(field: str, laws: tuple[str, ...]) -> Callable[[ConfigDict], bool]:
    """Whether the law of the scheme ``quantity`` reads `field`; no other scheme asks."""
    return lambda config: config.partition.name != "quantity" or config.partition.quantity in laws


# fmt: off
PARTITION = Part((
    Field("partition.name", "dirichlet", "how rows are dealt to clients",
          *one_of(*SCHEMES, *FOUND), CHOOSE),
    Field("partition.clients", 20, "how many; 0 with natural and given = as many as are found", *at_least(0), RAISE),
    Field("partition.concentration", 0.1, "Dirichlet's, of labels or of quantities",
          *finite(0, open_end=True), "0.1 is a strong label skew, 100 is nearly IID"),
    Field("partition.over", "classes", "dirichlet: each class shared out among clients, or each client's own mix",
          *one_of(*OVER), CHOOSE),
    Field("partition.classes_per_client", 2, "partition.name=pathological", *at_least(1), RAISE),
    Field("partition.shards_per_client", 2, "partition.name=shards", *at_least(1), RAISE),
    Field("partition.quantity", "log_normal", "partition.name=quantity: what the amounts are drawn from",
          *one_of(*QUANTITIES), CHOOSE),
    Field("partition.spread", 1.0, "log_normal's sigma, power_law's exponent", *finite(0), "0 makes all clients alike"),
    Field("partition.least", 1, "rows that every client gets", *at_least(1), "1 lets nobody go without"),
    Field("partition.path", "", "partition.name=given: a partition.npz", *TEXT, NONE),
    Field("partition.shots", 0, "rows of each class that a client keeps, at most; 0 = all", *at_least(0), RAISE),
    Field("partition.left_out", (), "clients whose rows are left out of the federation, to see what they bring; what "
          "they are tested on stays", distinct, "texts: names of sites, or numbers from 0 on, such as ('celle','4')",
          NONE),
    Field("partition.change", "none", "feature skew: what each client's images go through",
          *one_of("none", *CHANGES, "mixed"), CHOOSE),
    Field("partition.change_strength", 0.5, "the largest; each client's own is drawn up to it",
          *between(0, 1, closed=True), "0 changes nothing, 1 most"),
), check, (
    Unused(("partition.over",), heeds("over"), "partition.name"),
    Unused(("partition.concentration",), heeds("concentration"), "partition.name"),
    Unused(("partition.classes_per_client",), heeds("classes_per_client"), "partition.name"),
    Unused(("partition.shards_per_client",), heeds("shards_per_client"), "partition.name"),
    Unused(("partition.quantity", "partition.spread"), heeds("quantity"), "partition.name"),
    Unused(("partition.spread",), heeds_number("spread", ("log_normal", "power_law")), "partition.quantity"),
    Unused(("partition.concentration",), heeds_number("concentration", ("dirichlet",)), "partition.quantity"),
    only(("partition.path",), "partition.name", "given"),
    Unused(("partition.change_strength",), lambda config: config.partition.change != "none", "partition.change"),
))
