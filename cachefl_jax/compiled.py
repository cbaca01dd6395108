"""Compiled programs are kept on disk by JAX; an entry that cannot be read is compiled anew and written anew.

JAX itself compiles such a program, but warns of the entry in every process from then on and never replaces it: a
process that was killed while it wrote one leaves half of it for good. It has no public place for another rule, so two
functions of its compilation cache are wrapped. In a version without them all is as JAX has it.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable

import jax

SUFFIX = "-cache"  # of an entry's file
WRAPPED, MARK = ("get_executable_and_time", "put_executable_and_time"), "replaces_damaged_entries"


def replace_damaged_entries() -> None:
    """From now on an entry of the compilation cache that cannot be read, or written whole, is removed in silence."""
    try:
        from jax._src import compilation_cache

        functions = {name: getattr(compilation_cache, name) for name in WRAPPED}
    except (ImportError, AttributeError):
        return
    for name, function in functions.items():
        if not hasattr(function, MARK):  # twice does no harm
            setattr(compilation_cache, name, forgiving(function))


def forgiving(function: Callable) -> Callable:
    """`function` of an entry's key and more; where it fails, the entry goes and there is none, (None, None)."""

    @functools.wraps(function)
    def attempt(cache_key: str, *arguments, **named):
        try:
            return function(cache_key, *arguments, **named)
        except Exception:  # whatever a decoder or XLA makes of damaged bytes, or a full disk of whole ones
            remove(cache_key)
            return None, None

    setattr(attempt, MARK, True)
    return attempt


def remove(key: str) -> None:
    folder = jax.config.jax_compilation_cache_dir
    with contextlib.suppress(OSError):  # in a store that others wrote it stays, and is compiled every time
        if folder:
            (pathlib.Path(folder) / f"{key}{SUFFIX}").unlink()
