"""What a path means, wherever a config or a command names one.

``~`` is the user's home folder, and a relative path starts in the folder that the command was started in. A resolved
config has its paths in full, so that config.json means the same files whichever folder a later command starts in.
"""

import pathlib
import re
from collections.abc import Sequence

from cachefl_jax.errors import UsageError

PATHS = ("data.path", "synthesis.path", "synthesis.prompts_file", "synthesis.review", "partition.path", "poc.current")
NAMES = (
    "participation.profiles",
    "data.hub",
    "data.split_file",
    "clip.checkpoint",
    "synthesis.pipeline",
    "synthesis.language_model",
)  # a path, or a name known elsewhere
EMBEDDED = ("pocket", "grammar")  # never folders


def expand(field: str, text: str) -> str:
    """`text` with a leading ``~`` or ``~user`` replaced by that home folder.

    Raises UsageError: there is no such home folder, or it is the address of something that is no file here."""
    if re.match(r"[A-Za-z][\w+.-]*://", text):
        allowed = "a path on this machine (a folder called so would be made here)"
        raise UsageError(field, text, allowed, "mount or download it, and name the folder")
    try:
        return str(pathlib.Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        raise UsageError(field, text, "a path whose ~ is a home folder", "write the folder out") from error


def located_all(field: str, value: str | Sequence[str]) -> str | tuple[str, ...]:
    """`located` of a field's text, or of each of its texts.

    Raises UsageError: as `expand`."""
    return located(field, value) if isinstance(value, str) else tuple(located(field, text) for text in value)


def located(field: str, text: str) -> str:
    """The full path of a field's value; a name that is no path here, or nothing, stays as it is.

    Raises UsageError: as `expand`."""
    path = pathlib.Path(expand(field, text))
    written_as_path = field in PATHS or text.startswith((".", "~"))
    if not text or text in EMBEDDED or not (written_as_path or path.exists()):
        return text
    return str(path.absolute())
