"""What rounds between separate processes can do so far; all else is refused before a site is asked for anything.

Axis letters: N classes, K keys a class, D features.
"""

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import lookup, rows_of
from cachefl_jax.config.method import METHOD_NAMES
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Federation, ServerState
from cachefl_jax.methods import Method, Server, find_method
from cachefl_jax.methods.method import no_encoder

SIMULATED = "only the simulator does that: cachefl run"
# What a site and the server must agree on: groups, and fields by themselves.
SHARED = ("method", "seed", "cache", "local", "updates", "clip")
OWN = ("clip.checkpoint", "clip.batch_size")  # a place on a machine's disk, whose weights are compared; a speed
# Fields of which a pilot knows some values alone. Sites hold what they hold, and no site tells the server its classes.
KNOWN = {
    "local.algorithm": ("fedavg", "fednova"), "privacy.mechanism": ("none",), "hostile.kind": ("none",),
    "clip.train_views": (0,), "partition.change": ("none",), "partition.shots": (0,), "partition.left_out": ((),),
    "participation.profiles": ("",), "participation.drop_out": (0,), "participation.drop_out_late": (0,),
    "evaluation.drift": (False,), "overrides": ((),), "writers": ((),),
}  # fmt: skip
WIDTH = 512  # D of features that stand for any


def check_pilot(config: ConfigDict) -> None:
    """Raises UsageError: a config asks for what separate processes cannot do yet; the first such field is named."""
    for field, allowed in KNOWN.items():
        if (value := lookup(config, field)) not in allowed:
            listed = " or ".join(str(each) or "nothing" for each in allowed)
            raise UsageError(field, value, f"{listed} in a pilot", f"{field}={allowed[0]}; {SIMULATED}")
    for group in ("updates", "downloads"):
        found = [name for name in config[group].transforms if group == "downloads" or name not in ("clip", "noise")]
        if found:
            allowed = "clip and noise in a pilot" if group == "updates" else "none in a pilot"
            raise UsageError(f"{group}.transforms", found[0], allowed, f"leave it out; {SIMULATED}")
    if config.aggregation.name in SECURE:
        allowed = "one in a pilot whose server may see single updates"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, f"aggregation.name=mean; {SIMULATED}")
    check_method(find_method(config.method), config)
    check_compared(config)


def of_sites(config: ConfigDict, sites: int) -> ConfigDict:
    """The config with so many sites as its clients, who hold what they hold; of their classes the server knows none."""
    config = config.copy_and_resolve_references()
    config.partition.name, config.partition.clients, config.evaluation.client_rows = "iid", sites, "reweighted"
    return config


def check_compared(config: ConfigDict) -> None:
    """Raises UsageError: the config names rows to compare that a pilot does not train; the default's are not asked for.
    Zero-shot CLIP and round 0 are the server's to score."""
    if not config.compare and tuple(config.methods) == METHOD_NAMES:
        return
    for row in rows_of(config):
        if row.regime != "zero_shot" and (row.method != config.method or row.regime not in ("federated", "round_0")):
            field = "methods" if tuple(config.methods) != METHOD_NAMES else "compare"
            allowed = f"{config.method}, {config.method}@round_0 or zero_shot in a pilot"
            raise UsageError(field, row.name, allowed, f"leave it out; {SIMULATED}")


def check_method(method: Method, config: ConfigDict) -> None:
    """Raises UsageError: the method reads images, counts instead of training, leaves something with its clients, or
    asks for the encoder."""
    why = {
        "reads images": "images" in method.inputs,
        "is solved in closed form": method.closed_form is not None,
        "keeps leaves at its clients": method.personal is not None,
        "asks for the encoder": asks_encoder(method, config),
    }
    for reason in (reason for reason, applies in why.items() if applies):
        allowed = "a method that trains on features, the same model for all"
        raise UsageError("method", f"{config.method}, which {reason}", allowed, f"method=cachefl; {SIMULATED}")


def asks_encoder(method: Method, config: ConfigDict) -> bool:
    """Whether a method makes its params, or what stays frozen, by the encoder, which a server does not send to sites:
    tried on features [N, K, D] that stand for any."""
    asked = []

    def encoder():
        asked.append(True)
        no_encoder()

    rng = np.random.default_rng(0)
    shapes = (2, config.cache.keys_per_class, WIDTH), (2, WIDTH)
    synthetic, text = (unit(rng.normal(size=shape).astype(np.float32)) for shape in shapes)
    server = Server(synthetic, text, 100.0, ("a", "b"), encoder, ("a photo of a {}.",))
    for make in (method.init, method.freeze):
        try:
            make(server, config)
        except Exception:  # what is wrong beside it shows on the server's own features, before a site is asked
            continue
    return bool(asked)


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows [..., D], each divided by its length."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


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
