"""The JSON files of a run's folder and of a sweep's: which fields each has, and readers that check them.

`cachefl_jax.simulation` reads them to go on, `cachefl_jax.report` to tell people. Every reader raises a
`UsageError` that names file and field.
"""

import hashlib
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config import default, fits
from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.config.engine import STRATEGIES
from cachefl_jax.config.fields import FIELDS
from cachefl_jax.config.ranges import FLOAT32
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.checked_json import (
    AGAIN,
    AMOUNT,
    COUNT,
    FLAG,
    MOST,
    NUMBER,
    OBJECT,
    SHARE,
    TEXT,
    Fields,
    Kind,
    check,
    list_of,
    maybe,
    object_of,
    parse,
    read,
    real,
    whole,
)

CONFIG_MEND = "bring it back as it was, or name another folder"
LINE_MEND = "delete this line and repeat the sweep's own command: it makes the line anew"
SWEEP_MEND = "bring it back as it was, or name another folder"

DATASET = Fields(
    {"name": TEXT, "class_names": list_of(TEXT, least=1)},
    dict.fromkeys(("classes", "features", "train", "validation", "test", "synthetic", "clients"), maybe(COUNT))
    | {"title": maybe(TEXT)},
)
UNSCORED = {"test_accuracy": None, "validation_accuracy": None}
OVER_CLIENTS = ("mean", "worst_tenth", "std")  # of each client's accuracy on its own label distribution
SHARES = (*UNSCORED, "test_balanced_accuracy", "test_ece")
# What else a line of an evaluated round has; lines of other rounds, and of older runs, have none of it.
SCALARS = (*SHARES[2:], "test_cross_entropy", *(f"clients_{name}" for name in OVER_CLIENTS))
BACKDOOR = "backdoor_success"  # of a method whose clients were attacked by one: `simulation.hostile.backdoor_success`
CLOCK = "virtual_seconds"  # until the end of a round, in every line, where sites have profiles
SPENT = "epsilon"  # of differential privacy so far, in the same lines, where a run has any
DRIFT = ("update_norm", "cosine_to_mean", "gradient_diversity")  # of a round, where the run measures them
# Of logits that are large and still finite it is as large.
ENTROPY = Kind(lambda value: fits_float32(value) and value >= 0, AMOUNT.words)
METHOD = Fields(
    {},
    {
        **dict.fromkeys((*SHARES, "test_accuracy_min", "test_accuracy_max", BACKDOOR), maybe(SHARE)),
        "test_cross_entropy": maybe(ENTROPY),
        "test_class_accuracy": maybe(list_of(maybe(SHARE))),
        "clients": maybe(object_of(maybe(SHARE))),
        "rounds_to": maybe(object_of(maybe(COUNT))),
        "rounds": maybe(COUNT),
        "uplink_bytes_per_client_round": maybe(AMOUNT),
        "downlink_bytes_per_client_round": maybe(AMOUNT),
        "total_bytes": maybe(AMOUNT),
        "client_flops_per_round": maybe(AMOUNT),
        "seconds_per_round": maybe(AMOUNT),
        "diverged": maybe(FLAG),
        "sites": maybe(object_of(maybe(AMOUNT))),
        **dict.fromkeys(("epsilon", "delta", "noise_multiplier"), maybe(AMOUNT)),
        **dict.fromkeys(("label", "explanation", "untrained", "privacy", "guarantee", "regime"), maybe(TEXT)),
    },
)
PILOT = "pilot.json"  # marks the folder of a pilot between real sites; its config and summary are as a run's
SITE = Fields({"name": TEXT, "rows": COUNT, "rounds": COUNT}, {})
TRAINED = "cachefl"  # what older versions trained
MEASURED = Fields({name: METHOD.optional[name] for name in ("test_accuracy", "validation_accuracy")}, {})
WHOLE_MODEL = Fields(
    {"bytes": Kind(lambda value: real(value) and value > 0, "a number above 0")},
    {"name": TEXT, "image_forward_flops": maybe(AMOUNT), "image_backward_flops": maybe(AMOUNT)},
)
PRECISION = Fields({"matmul": TEXT, "dtype": TEXT}, {})
SUMMARY = Fields(
    {"dataset": OBJECT, "methods": OBJECT},
    {"method": maybe(TEXT), "notes": maybe(list_of(TEXT)),
     **dict.fromkeys(("whole_model", "precision", "pilot"), maybe(OBJECT))},
)  # fmt: skip
ROUND = Fields(
    {
        "round": COUNT, **dict.fromkeys(UNSCORED, maybe(SHARE)), "train_loss": maybe(NUMBER),
        "bytes_up": AMOUNT, "bytes_down": AMOUNT, "seconds": AMOUNT, "cohort": COUNT,
    },
    dict.fromkeys((*SCALARS, *DRIFT, SPENT, CLOCK), maybe(AMOUNT)) | {"test_cross_entropy": maybe(ENTROPY)},
)  # fmt: skip
SETTING = Kind(lambda value: isinstance(value, str) or fits_float32(value), "text or a number")
CARD = Fields(
    {
        "scheme": TEXT, "settings": OBJECT, "seed": maybe(COUNT), "least": COUNT, "repairs": COUNT, "change": TEXT,
        "change_strength": maybe(SHARE), "hash": TEXT,
    },
    {"features": maybe(TEXT), "client_names": list_of(TEXT)},
)  # fmt: skip
INPUTS = Fields({"parts": OBJECT, "files": OBJECT}, {})
POINT = Fields(
    {"point": COUNT, "methods": OBJECT, "overrides": OBJECT},
    {"method": TEXT, "diverged": FLAG, "command": TEXT, "keys_sha256": maybe(TEXT), "curve": maybe(OBJECT)},
)
DEVICES = Kind(lambda value: whole(value) and value >= 1, "a whole number, 1 or more")
PLAN = Fields(
    {"strategy": Kind(lambda value: value in STRATEGIES, " | ".join(STRATEGIES)), "client_chunk": COUNT,
     "devices": DEVICES, "block_rows": COUNT},
    {"class_devices": DEVICES, "classes": COUNT, "own_rows": FLAG},
)  # fmt: skip


def file_name(name: str) -> str:
    """A row's name as that of a file or folder; one with other letters, or with capitals, which some file systems do
    not tell from small ones, is told apart by a digest."""
    plain = re.sub(r"[^a-z0-9_.@-]", "_", name)
    return name if plain == name else f"{plain[-80:].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def compared_folder(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where a run's folder has the rounds of a federated row that is not config.method's own."""
    return folder / "compared" / file_name(name)


def fits_float32(value: Any) -> bool:
    """Whether a setting is a number that a field of the config may have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= FLOAT32[0]


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """config.json. Fields that are newer or older than this version's are taken as they are."""
    return check_config(read(path, CONFIG_MEND), str(path))


def check_config(fields: Any, place: str) -> dict[str, Any]:
    """A config as JSON has it: each field that this version knows is of its type and in its range."""
    check(fields, Fields({}, {}), place, mend=CONFIG_MEND)
    check_group(fields, default(), place)
    for field in FIELDS:
        if field.name in ("methods", *COMPONENTS):
            continue  # another version may have components that this one has not; what runs them refuses them
        group, value = fields, None
        for name in field.name.split("."):
            group = value = group.get(name) if isinstance(group, dict) else None
        if value is not None and not field.holds(tuple(value) if isinstance(value, list) else value):
            raise UsageError(f"workdir: {place}", f"{field.name} = {value!r}", field.allowed, CONFIG_MEND)
    return fields


def check_group(fields: dict[str, Any], samples: ConfigDict, place: str, prefix: str = "") -> None:
    """Each field against the default of the same name."""
    for name, sample in samples.items():
        if name not in fields:
            continue
        value = fields[name]
        if isinstance(sample, ConfigDict):
            check(value, Fields({}, {}), place, f"{prefix}{name}.", CONFIG_MEND)
            check_group(value, sample, place, f"{prefix}{name}.")
        else:
            sized = not isinstance(value, int) or abs(value) <= MOST  # a float is finite already
            kind = Kind(lambda value, sample=sample, sized=sized: sized and fits(value, sample), type(sample).__name__)
            check(fields, Fields({name: kind}, {}), place, prefix, CONFIG_MEND)


def read_summary(path: pathlib.Path) -> dict[str, Any]:
    """summary.json."""
    summary = check(read(path), SUMMARY, str(path))
    dataset = check(summary["dataset"], DATASET, str(path), "dataset.")
    classes, names = dataset.get("classes"), len(dataset["class_names"])
    if classes not in (None, names):
        raise UsageError(f"workdir: {path}", f"dataset.classes = {classes}", f"{names}, as many as class_names", AGAIN)
    check_methods(summary["methods"], str(path))
    if summary.get("whole_model") is not None:
        check(summary["whole_model"], WHOLE_MODEL, str(path), "whole_model.")
    if summary.get("precision") is not None:
        check(summary["precision"], PRECISION, str(path), "precision.")
    if summary.get("pilot") is not None:
        pilot = check(summary["pilot"], Fields({"sites": list_of(OBJECT, least=1)}, {}), str(path), "pilot.")
        for site in pilot["sites"]:
            check(site, SITE, str(path), "pilot.sites.")
    return summary


def sites_of_pilot(folder: pathlib.Path) -> list[str] | None:
    """The names of a pilot's sites; None where the folder is no pilot's."""
    path = folder / PILOT
    if not path.is_file():
        return None
    return check(read(path, CONFIG_MEND), Fields({"sites": list_of(TEXT, least=1)}, {}), str(path))["sites"]


def check_methods(methods: dict[str, Any], place: str, mend: str = AGAIN) -> dict[str, Any]:
    """Entries of summary.json's "methods", of baselines.json, or of a sweep's line."""
    for name, method in methods.items():
        check(method, METHOD, place, f"methods.{name}.", mend)
    return methods


def read_baselines(path: pathlib.Path) -> dict[str, Any]:
    """baselines.json, a method's entry each."""
    return check_methods(check(read(path), Fields({}, {}), str(path)), str(path))


def read_plan(path: pathlib.Path) -> dict[str, Any]:
    """The plan in an engine.json: the fields of `cachefl_jax.federation.Plan`."""
    record = check(read(path), Fields({"plan": OBJECT}, {}), str(path))
    plan = check(record["plan"], PLAN, str(path), "plan.")
    return {name: plan[name] for name in (*PLAN.needed, *PLAN.optional) if name in plan}


def read_card(path: pathlib.Path) -> dict[str, Any]:
    """partition.json."""
    card = check(read(path), CARD, str(path))
    settings = Fields(dict.fromkeys(card["settings"], SETTING), {})
    check(card["settings"], settings, str(path), "settings.")
    return card


def read_inputs(path: pathlib.Path) -> dict[str, dict[str, str]]:
    """inputs.json: digests of what the run was made of."""
    inputs = check(read(path, CONFIG_MEND), INPUTS, str(path), mend=CONFIG_MEND)
    for group, digests in inputs.items():
        check(digests, Fields(dict.fromkeys(digests, TEXT), {}), str(path), f"{group}.", CONFIG_MEND)
    return inputs


def parse_round(line: bytes, place: str) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    return check(parse(line, place), ROUND, place)


def read_results(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a sweep's results.jsonl, by point; of two lines for a point the later one counts."""
    lines = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        place = f"{path}, line {number}"
        row = check(parse(line, place, LINE_MEND), POINT, place, mend=LINE_MEND)
        check_methods(row["methods"], place, LINE_MEND)
        trained = row.get("method", TRAINED)
        check(row["methods"].get(trained), MEASURED, place, f"methods.{trained}.", LINE_MEND)
        lines[row["point"]] = row
    return [lines[point] for point in sorted(lines)]


def read_sweep(path: pathlib.Path) -> list[dict[str, Any]]:
    """A sweep's sweep.json: the config of each point."""
    configs = read(path, SWEEP_MEND)
    if not isinstance(configs, list) or not configs:
        raise UsageError(f"workdir: {path}", type(configs).__name__, "a list of at least one config", SWEEP_MEND)
    return [check_config(config, f"{path}, point {number}") for number, config in enumerate(configs)]
