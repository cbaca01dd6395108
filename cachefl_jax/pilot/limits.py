"""What rounds between separate processes can do so far; all else is refused before a site is asked for anything."""

import jax
from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.config.secure import SECURE
from cachefl_jax.config.sites import scheduled
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Federation, ServerState
from cachefl_jax.methods import Method, find_method

SIMULATED = "only the simulator does that: cachefl run"
# What a site and the server must agree on: groups, and fields by themselves.
SHARED = ("method", "seed", "cache", "local", "updates", "clip")
OWN = ("clip.checkpoint", "clip.batch_size")  # a place on a machine's disk, whose weights are compared; a speed


def check_pilot(config: ConfigDict) -> None:
    """Raises UsageError: a config asks for what separate processes cannot do yet; the first such field is named."""
    for field, allowed in (
        ("local.algorithm", ("fedavg", "fednova")),
        ("privacy.mechanism", ("none",)),
        ("hostile.kind", ("none",)),
        ("clip.train_views", (0,)),
    ):
        if (value := lookup(config, field)) not in allowed:
            listed = " or ".join(map(str, allowed))
            raise UsageError(field, value, f"{listed} in a pilot", f"{field}={allowed[0]}; {SIMULATED}")
    for group in ("updates", "downloads"):
        found = [name for name in config[group].transforms if group == "downloads" or name not in ("clip", "noise")]
        if found:
            allowed = "clip and noise in a pilot" if group == "updates" else "none in a pilot"
            raise UsageError(f"{group}.transforms", found[0], allowed, f"leave it out; {SIMULATED}")
    if config.aggregation.name in SECURE:
        allowed = "one in a pilot whose server may see single updates"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, f"aggregation.name=mean; {SIMULATED}")
    if scheduled(config):
        allowed = "none in a pilot, where sites come and go by themselves"
        raise UsageError("participation.profiles", "a timetable", allowed, f"leave it out; {SIMULATED}")
    check_method(find_method(config.method), config)


def check_method(method: Method, config: ConfigDict) -> None:
    """Raises UsageError: the method reads images, counts instead of training, or leaves something with its clients."""
    why = {
        "reads images": "images" in method.inputs,
        "is solved in closed form": method.closed_form is not None,
        "keeps leaves at its clients": method.personal is not None,
    }
    for reason in (reason for reason, applies in why.items() if applies):
        allowed = "a method that trains on features, the same model for all"
        raise UsageError("method", f"{config.method}, which {reason}", allowed, f"method=cachefl; {SIMULATED}")


def check_state(federation: Federation, state: ServerState) -> None:
    """Raises UsageError: a component leaves something with its clients from round to round, or tells the server
    something beside its update."""
    if jax.tree.leaves(state.clients) or federation.tells or federation.measures is not None:
        allowed = "transforms in a pilot that keep nothing at a site and tell nothing beside the update"
        raise UsageError("updates.transforms", "one that does", allowed, f"leave it out; {SIMULATED}")


def agreed_fields(config: ConfigDict) -> dict:
    """The fields on which a site and the server must agree, by dotted names, as JSON holds them."""
    found = {}
    brought = {field.name.split(".")[0] for field in find_method(config.method).fields}
    for name in (*SHARED, *sorted(brought - set(SHARED))):
        value = config[name]
        entries = value.to_dict() if isinstance(value, ConfigDict) else None
        found |= {name: value} if entries is None else {f"{name}.{each}": entry for each, entry in entries.items()}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if name not in OWN
    }


def check_agreed(ours: dict, theirs: dict) -> None:
    """Raises UsageError: the site's config says otherwise than the server's; the first such field is named."""
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            allowed = f"{theirs.get(name)}, as the server has it"
            raise UsageError(name, str(ours.get(name)), allowed, "give the site the server's config")
