"""What a config names: an object of ours by its name, a user's by a module or a file.

    NAME                    one of a table of ours, which says the module that brings it
    package.module:name     of a module that Python finds
    path/to/file.py:name    of a file, which is loaded once a process

Nothing is imported before it is named, so that a table costs nothing.
"""

import contextlib
import difflib
import importlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from cachefl_jax.errors import UsageError, listing

FORMS = "package.module:name | path/to/file.py:name"
Table = Mapping[str, str]  # a name of ours -> "module:attribute"


def find(field: str, name: str, table: Table, kind: str = "") -> Any:
    """The object that `name` means.

    Args:
        field: the config's, for messages.
        name: one of `table`, or a user's.
        table: our names.
        kind: "module:class" of what it must be an instance of; "" takes everything.

    Raises UsageError: no such name, module or file; its code raises; it lacks the attribute, or that is no `kind`."""
    check_form(field, name, table)
    place, _, attribute = table.get(name, name).rpartition(":")
    module = load_file(field, name, pathlib.Path(place)) if is_file(name) else load_module(field, name, place)
    wanted = find(field, kind, {}) if kind else object
    if not hasattr(module, attribute):
        names = [each for each, value in vars(module).items() if each[0] != "_" and isinstance(value, wanted)]
        names = [each for each in names if not isinstance(vars(module)[each], ModuleType)]
        near = difflib.get_close_matches(attribute, names, n=3) or names
        what = wanted.__name__ if kind else "name"
        allowed = f"a {what} that {place} has: {listing(near, 6) or 'none'}"
        raise UsageError(field, name, allowed, "correct what is behind the colon")
    found = getattr(module, attribute)
    if not isinstance(found, wanted):
        allowed = f"a {wanted.__module__}.{wanted.__name__}"
        raise UsageError(field, f"{name} (of type {type(found).__name__})", allowed, "name an object of this type")
    return found


def check_form(field: str, name: str, table: Table) -> None:
    """Whether `name` is one of ours or has the form of a user's. Imports nothing. Raises UsageError: it is neither."""
    if has_form(name, table):
        return
    near = difflib.get_close_matches(name, table, n=1)
    mend = f"did you mean {near[0]}?" if near else "choose one of these, or name your own"
    if name.endswith(".py"):
        mend = f"say which object of the file: {name}:name"
    raise UsageError(field, name, " | ".join((*table, FORMS)), mend)


def has_form(name: str, table: Table) -> bool:
    """Whether `name` is one of ours or has the form of a user's."""
    place, _, attribute = name.rpartition(":")
    dotted = all(part.isidentifier() for part in place.split("."))
    return name in table or (attribute.isidentifier() and (dotted or is_file(name)))


def is_file(name: str) -> bool:
    """Whether `name` is an object in a file."""
    place = name.rpartition(":")[0]
    return place.endswith(".py") or "/" in place


def file_of(name: str) -> pathlib.Path | None:
    """The file that defines a user's object which was found; None for what has no file."""
    place = name.rpartition(":")[0]
    file = place if is_file(name) else getattr(sys.modules.get(place), "__file__", None)
    return pathlib.Path(file) if file else None


def short(name: str) -> str:
    """The object's own name, without where it is from."""
    return name.rpartition(":")[2]


def load_module(field: str, name: str, place: str) -> ModuleType:
    """The module of that name, imported."""
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and f"{place}.".startswith(f"{error.name}."):
            value, allowed = f"{name} (no module {error.name})", "a module that Python finds"
            raise UsageError(field, value, allowed, "correct it, or set PYTHONPATH") from error
        raise broken(field, name, error) from error
    except (Exception, SystemExit) as error:  # it is the user's own program, and raises whatever it does
        raise broken(field, name, error) from error


def load_file(field: str, name: str, path: pathlib.Path) -> ModuleType:
    """The module that a file is, executed once a process; nothing is left of one that fails."""
    path = path.expanduser().resolve()
    known = f"cachefl_jax.named:{path}"
    if known in sys.modules:
        return sys.modules[known]
    if not path.is_file():
        told = "is a folder" if path.is_dir() else "no such file"
        raise UsageError(field, f"{name} ({told})", "a Python file", "correct the path")
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None:
        raise UsageError(field, name, "a Python file, whose name ends in .py", "correct the path")
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[known]
        if isinstance(error, (Exception, SystemExit)):
            raise broken(field, name, error) from error
        raise
    return module


MOST_TOLD = 200  # characters of an error's message; of a longer one its first line


def broken(field: str, name: str, error: BaseException, allowed: str = "a file or module that loads") -> UsageError:
    """The refusal of a user's code that raises, with where it does."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if frame.filename != __file__]
    own = [frame for frame in frames if pathlib.Path(frame.filename) == file_of(name)] or frames
    inside = f", {pathlib.Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    told = " ".join(str(error).split()) or "no message"
    told = told if len(told) <= MOST_TOLD else str(error).strip().splitlines()[0]  # JAX explains itself at length
    return UsageError(field, f"{name} ({type(error).__name__}: {told}{inside})", allowed, "correct it")


@contextlib.contextmanager
def users_code(field: str, name: str) -> Iterator[None]:
    """Where the code of a user's component runs: whatever it raises becomes one line.

    Raises UsageError: it raised."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise broken(field, name, error, "code that runs") from error
