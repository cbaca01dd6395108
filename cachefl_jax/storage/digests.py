"""One sha256 for the files of a model. Gigabytes are hashed once: what was hashed is remembered."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

from tqdm import tqdm

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest
from cachefl_jax.storage.home import is_settled, memory_of, recall, remember


def files_digest(
    directory: pathlib.Path, paths: Sequence[pathlib.Path], field: str, root: pathlib.Path | None = None
) -> str:
    """The sha256 of files of a folder, by their names and what they hold; where the folder lies does not change it.

    Args:
        field: the config field that named the folder, for the message.
        root: the folder whose ``digests/`` remembers; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: a file cannot be read."""
    place = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    memory = memory_of(place, root)
    remembered, now, digest = recall(memory), {}, hashlib.sha256()
    # The bar waits two seconds: a pocket's weights need no bar, a large model's do.
    for path in tqdm(paths, desc="hashing the model", leave=False, disable=None, delay=2):
        try:
            now[path.name] = file_line(path, remembered.get(path.name))
        except OSError as error:
            mend = "make it readable, or download it again"
            raise UsageError(field, f"{path} ({error.strerror})", "readable files", mend) from error
        digest.update(f"{path.name} {now[path.name]['sha256']}\n".encode())
    settled = {name: line for name, line in now.items() if is_settled(line["time"])}
    if settled != remembered:
        remember(memory, settled)
    return digest.hexdigest()


def file_line(path: pathlib.Path, before: dict | None) -> dict:
    """What tells this file from another, and its sha256: the one of before where all else is the same."""
    stat = path.stat()
    line = {"size": stat.st_size, "time": max(stat.st_mtime_ns, stat.st_ctime_ns), "inode": stat.st_ino}
    if isinstance(before, dict) and before.get("sha256") and {**before, **line} == before:
        return before
    return {**line, "sha256": file_digest(path)}
