"""The one exception that means "what you asked for cannot be done, and here is the mend"."""

import errno
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

ROOM, RIGHTS = "a place with room for what is written", "a place that may be written"
MAKE_ROOM, ALLOW = "make room, and the same command goes on", "make it so, or name another place"
REFUSALS = {  # what a file system refuses through no fault of the code: what is allowed, and the mend
    errno.ENOSPC: (ROOM, MAKE_ROOM),
    errno.EDQUOT: (ROOM, MAKE_ROOM),
    errno.EFBIG: (ROOM, MAKE_ROOM),
    errno.EROFS: (RIGHTS, ALLOW),
    errno.EACCES: ("a file that this user may use", ALLOW),
    errno.EPERM: ("a file that this user may use", ALLOW),
    errno.ENOTDIR: ("folders above a file", "name another place"),
    errno.EISDIR: ("a file", "name another place"),
    errno.ENAMETOOLONG: ("a name that the file system takes", "choose a shorter one"),
    errno.ELOOP: ("links that lead somewhere", "mend the link"),
    errno.EIO: ("a disk that works", "see the system's log"),
    errno.ESTALE: ("a file that the server still has", "mount it again, and the same command goes on"),
    errno.EMFILE: ("as many open files as are needed", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("as many open files as are needed", "close other programs"),
}


class UsageError(ValueError):
    """Bad input, told in one line: the field, its value, what is allowed, and the mend.

    The commands print it without a traceback and leave with status 2.

    Args:
        field: the config field, file or array that is wrong, by the name a user knows it by.
        value: what was found there.
        allowed: what would have been accepted.
        mend: what to do about it.
    """

    def __init__(self, field: str, value: object, allowed: str, mend: str):
        self.field, self.value, self.allowed, self.mend = field, value, allowed, mend
        text = value if isinstance(value, str) and value else repr(value)  # nothing at all shows as ''
        line = f"{field}: got {text}; allowed: {allowed}; mend: {mend}"
        # Names of files come into it, and may hold what would steer a terminal.
        super().__init__("".join(each if each.isprintable() else "?" for each in " ".join(line.split())))

    @property
    def fields(self) -> dict[str, str]:
        """Its arguments, as JSON and messages hold them."""
        value = self.value if isinstance(self.value, str) and self.value else repr(self.value)
        return {"field": self.field, "value": value, "allowed": self.allowed, "mend": self.mend}


def listing(names: Iterable[object], shown: int = 3) -> str:
    """The first few names, and how many more there are; what is no text in one becomes a replacement character."""
    texts = [re.sub(r"[\ud800-\udfff]", "\ufffd", str(name)) for name in names]
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(texts[:shown]) + more


def refusal(error: OSError, places: Mapping[str, Sequence[str]]) -> UsageError | None:
    """What the file system refused, in one line; None for any other error of the system, which is no user's fault.

    Args:
        error: with the file's name where it is known.
        places: folders by the flag, field or variable that names them.
    """
    if error.errno not in REFUSALS:
        return None
    field, name = "disk", error.filename or error.filename2
    if isinstance(name, (str, bytes, pathlib.PurePath)):
        path = pathlib.Path(name.decode(errors="replace") if isinstance(name, bytes) else name).absolute()
        named = [(len(folder), key) for key, folders in places.items() for folder in folders if within(path, folder)]
        field = max(named, default=(0, "file"))[1]
    value = f"{name} ({error.strerror})" if name else str(error.strerror)
    return UsageError(field, value, *REFUSALS[error.errno])


def within(path: pathlib.Path, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path.is_relative_to(pathlib.Path(folder).absolute())


def of_the_system(error: BaseException, path: pathlib.Path) -> OSError | None:
    """The refusal of the file system that lies behind a library's own error, and names `path`; None where none does.

    Some libraries raise it as a cause, others (Orbax by way of tensorstore) tell of it in words alone.
    """
    behind: BaseException | None = error
    while behind is not None:
        number = behind.errno if isinstance(behind, OSError) else None
        told = (code for code in REFUSALS if os.strerror(code) in str(behind))
        number = number if number in REFUSALS else next(told, None)
        if number is not None:
            return OSError(number, os.strerror(number), str(path))
        behind = behind.__cause__ or behind.__context__
    return None
