"""JAX's settings as the environment leaves them, and as a run needs them.

The same command gives the same keys whatever ``JAX_...`` variables a machine sets for other work: settings that change
numbers, or under which a compiled run cannot be made, are put back to JAX's own defaults, and that is said once.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

from cachefl_jax.errors import UsageError
from cachefl_jax.precision import forget_precision

NEEDED = {
    "jax_enable_x64": False,
    "jax_disable_jit": False,
    "jax_default_matmul_precision": None,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_transfer_guard": "allow",
    "jax_debug_nans": False,  # training that diverges is told by the run itself
    "jax_debug_infs": False,
}
PLATFORMS = "JAX_PLATFORMS"


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """`settle` for a while: afterwards every setting is as the caller has it, and a run's precision is no other
    code's."""
    before = {name: getattr(jax.config, name, None) for name in NEEDED}
    settle()
    try:
        yield
    finally:
        forget_precision()
        for name in (name for name, value in before.items() if getattr(jax.config, name, None) != value):
            jax.config.update(name, before[name])


def settle() -> None:
    """Puts every setting that a run depends on to the value that it needs, and says which were others."""
    known = {name: value for name, value in NEEDED.items() if hasattr(jax.config, name)}
    others = [name for name, value in known.items() if getattr(jax.config, name) not in (value, None)]  # None: not set
    for name in others:
        jax.config.update(name, known[name])
    if others:
        told = ", ".join(f"{name.upper()}={os.environ.get(name.upper(), 'set')}" for name in others)
        print(f"not followed, so that a run is the same everywhere: {told}", file=sys.stderr)


def wanted_platforms() -> str | None:
    """What JAX_PLATFORMS says."""
    return jax.config.jax_platforms


def device_count() -> int:
    """How many devices there are over all processes; starts JAX. Raises UsageError: there is no such platform."""
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:  # AssertionError: one that is known, and not built in
        wanted = wanted_platforms()
        if not wanted:
            raise
        reason = str(error).split(" (set JAX_PLATFORMS")[0]
        allowed = "platforms that this machine and the installed jaxlib have, such as cpu"
        value = f"{wanted} ({reason})" if reason else wanted
        raise UsageError(PLATFORMS, value, allowed, f"unset {PLATFORMS}: JAX then chooses") from error
