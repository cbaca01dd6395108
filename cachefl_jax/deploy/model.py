"""The file that a run leaves, read back as a model.

Axis letters: N classes, K keys a class, D features.
"""

import json
import pathlib
from typing import Any, NamedTuple, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from cachefl_jax.clip.images import Preparation
from cachefl_jax.config.method import METHODS
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.methods.cachefl import Cache
from cachefl_jax.methods.method import Restored
from cachefl_jax.storage.checked_json import NUMBER, TEXT, Kind, list_of, maybe

FIELD = "--model"
MODELS = "the cache.safetensors or model.safetensors that a run leaves"
AGAIN = "repeat the run with this version in a new folder"
FIELDS = {
    "method": TEXT, "class_names": list_of(TEXT, 1), "logit_scale": NUMBER, "checkpoint": maybe(TEXT),
    "weights_sha256": maybe(TEXT), "precision": maybe(TEXT),
    "preparation": maybe(Kind(lambda value: isinstance(value, dict), "an object")),
}  # fmt: skip


class Model(NamedTuple):
    """A model ready to predict.

    Attributes:
        path: its file.
        arrays: by name, float32; "text" [N, D] among them.
        told: the file's metadata.
        restored: what gives its logits.
    """

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    told: dict[str, Any]
    restored: Restored

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.told["class_names"])

    @property
    def folder_names(self) -> tuple[str, ...]:
        """[N] what folders of the classes may be called beside their names; () where the file tells none."""
        told = self.told.get("folder_names")
        return tuple(told) if list_of(TEXT, 1).holds(told) and len(told) == len(self.class_names) else ()

    @property
    def width(self) -> int:
        """D."""
        return self.arrays["text"].shape[1]

    @property
    def keys(self) -> np.ndarray | None:
        """[N, K, D]; None of a model that is no cache, whatever its arrays are called."""
        return self.restored.params.keys if isinstance(self.restored.params, Cache) else None

    @property
    def preparation(self) -> Preparation | None:
        """What is done to an image before the vision tower sees it; None where the encoder is not known."""
        told = self.told["preparation"]
        if told is None:
            return None
        pairs = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        return Preparation(**pairs)


def read_model(path: pathlib.Path) -> Model:
    """The model of a file.

    Raises UsageError: the file is no model's, is damaged, lacks what an older version did not write, or is of a method
    that cannot be predicted with."""
    arrays, told = read_file(path)
    missing = [f"no {name}" for name in FIELDS if name not in told] + ["no text"] * ("text" not in arrays)
    if missing:
        older = "keys" in arrays and "class_names" in told
        refuse(path, f"{'of an older version: ' if older else ''}{', '.join(missing)}", AGAIN if older else "")
    for name, kind in FIELDS.items():
        if not kind.holds(told[name]):
            refuse(path, f"{name} is not {kind.words}")
    if len(set(told["class_names"])) < len(told["class_names"]):
        refuse(path, "a class name twice")
    check_arrays(path, arrays, len(told["class_names"]))
    restored = restore(path, arrays, told)
    model = Model(path, arrays, told, restored)
    if model.keys is not None and (model.keys.ndim != 3 or model.keys.shape[::2] != arrays["text"].shape):
        refuse(path, f"keys of shape {model.keys.shape} beside text of shape {arrays['text'].shape}")
    try:
        _ = model.preparation
    except TypeError:
        refuse(path, "preparation is not one that is known here")
    return model


def read_file(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) of a safetensors file whose metadata is JSON. Raises UsageError: it is none."""
    if not path.is_file():
        refuse(path, "a folder" if path.is_dir() else "no such file", "correct the path")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if "class_names" not in metadata:
                refuse(path, "without class names: another kind of safetensors")
            return {name: file.get_tensor(name) for name in file.keys()}, {  # noqa: SIM118
                name: json.loads(value) for name, value in metadata.items()
            }
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        refuse(path, f"damaged: {type(error).__name__}")


def check_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray], classes: int) -> None:
    """Refuses arrays that are no model's of so many classes."""
    text = arrays["text"]
    if text.ndim != 2 or len(text) != classes:
        refuse(path, f"text of shape {text.shape} for {classes} class names")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            refuse(path, f"{name} is not of finite float32 numbers")


def restore(path: pathlib.Path, arrays: dict[str, np.ndarray], told: dict[str, Any]) -> Restored:
    """What the file's method makes of it. Only methods of this package are looked up: a file must not choose what code
    is run."""
    name = told["method"]
    method = find_method(name) if name in METHODS else None
    if method is None or method.restore is None:
        can = ", ".join(sorted(each for each in METHODS if find_method(each).restore))
        value, allowed = f"{path} (of the method {name})", f"a model of {can}"
        raise UsageError(FIELD, value, allowed, "evaluate it in its run's folder by cachefl evaluate")
    try:
        return method.restore(arrays, told)
    except (KeyError, TypeError, ValueError) as error:
        refuse(path, f"without what {name} needs: {error}")


def refuse(path: pathlib.Path, found: str, mend: str = "") -> NoReturn:
    """Raises UsageError: the file is no model that can be used."""
    raise UsageError(FIELD, f"{path} ({found})", MODELS, mend or "name a run's file, or copy it again")
