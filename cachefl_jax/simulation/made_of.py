"""inputs.json: what a run was made of, so that nothing goes on, or counts as done, on other data.

`parts` are digests of what the run read: arrays of a bank; of images the sources' fingerprints; the encoder's weights,
the partition, the files of a user's components. `files` are digests of sizes and times of the files that the config
names: where these are as they were, so are the parts, and nothing need be read.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from ml_collections import ConfigDict

import cachefl_jax
from cachefl_jax.config import lookup
from cachefl_jax.config.components import users
from cachefl_jax.config.paths import EMBEDDED, NAMES, PATHS
from cachefl_jax.config.sites import file_of_profiles
from cachefl_jax.data import FeatureBank
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of
from cachefl_jax.data.sources import splits_of
from cachefl_jax.named import file_of

CODE = "code of "  # begins the name of a part that is a user's


def bank_parts(bank: FeatureBank) -> dict[str, str]:
    """Digests of a bank's parts, by names that a user understands."""
    splits = {"training": bank.train, "validation": bank.validation, "test": bank.test, "synthetic": bank.synthetic}
    parts = {f"{name} rows": digest(*split) for name, split in splits.items() if split is not None}
    if bank.text_features is not None:
        parts["text features"] = digest(bank.text_features)
    named = fingerprint_of(*bank.class_names, repr(float(bank.logit_scale)))
    return parts | {"class names and logit scale": named}


def image_parts(source: ImageSet, synthetic: LabelledImages) -> dict[str, str]:
    """As `bank_parts`, of images; what encodes them comes on top."""
    splits = {**splits_of(source), "synthetic": synthetic}
    names = {"train": "training"}
    parts = {
        f"{names.get(role, role)} images": fingerprint_of(split.fingerprint, np.asarray(split.labels))
        for role, split in splits.items()
    }
    return parts | {"class names": fingerprint_of(*source.class_names), "prompts": fingerprint_of(*source.templates)}


def code_files(config: ConfigDict) -> dict[str, pathlib.Path]:
    """The file of each component that is a user's, by the name of its part."""
    found = {f"{CODE}{name}": file_of(name) for name, _ in users(config)}
    return {part: file for part, file in found.items() if file is not None}


def named_parts(config: ConfigDict) -> dict[str, str]:
    """Digests of the files of a user's components, whose imports are not looked at, and of sites' profiles."""
    files = code_files(config)
    if os.path.isfile(profiles := file_of_profiles(config)):  # else nothing is made of it: `profiles_of` refuses it
        files["site profiles"] = pathlib.Path(profiles)
    return {part: hashlib.sha256(file.read_bytes()).hexdigest() for part, file in files.items()}


@functools.cache  # of a process, which loads its code once
def package_digest() -> str:
    """The sha256 of this package's own code and of JAX's version: what equal configs and data come out equal by."""
    found, top = hashlib.sha256(version("jax").encode()), pathlib.Path(cachefl_jax.__file__).parent
    for file in sorted(top.rglob("*.py")):
        found.update(f"{file.relative_to(top)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()


def digest(*arrays: np.ndarray) -> str:
    """The sha256 of arrays, their shapes and types, without a copy of them."""
    found = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(array)
    return found.hexdigest()


def files_of(config: ConfigDict) -> dict[str, str]:
    """A digest of sizes and times for each field that names a file or folder which is there, and of a user's code."""
    found = {}
    for field in (*PATHS, *NAMES):
        value = lookup(config, field)
        for path in (value,) if isinstance(value, str) else value:
            if path and path not in EMBEDDED and os.path.exists(path):
                found[f"{field} {path}" if path != value else field] = times_digest(pathlib.Path(path))
    return found | {part: times_digest(file) for part, file in code_files(config).items()}


def times_digest(path: pathlib.Path) -> str:
    """The sha256 of paths, sizes and times of a file, or of all files below a folder. The time of change of a file's
    entry counts too, which nobody can set back."""
    found = hashlib.sha256()
    for file in files_below(path):
        try:
            facts = file.stat()
        except OSError:  # a link to nowhere, or gone by now
            continue
        line = f"{file.relative_to(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ctime_ns}\n"
        found.update(os.fsencode(line))
    return found.hexdigest()


def files_below(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file itself, or those of a folder in a fixed order; each folder once, though links lead in circles."""
    if path.is_file():
        yield path
    seen = set()
    for folder, names, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else sorted(names)
        if real not in seen:
            yield from (pathlib.Path(folder, name) for name in sorted(files))
        seen.add(real)


def changes(before: dict, now: dict[str, str]) -> list[str]:
    """The parts that differ, with the beginnings of both digests."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name} {str(before.get(name, 'none'))[:12]}, now {now.get(name, 'none')[:12]}"
        for name in names
        if before.get(name) != now.get(name)
    ]
