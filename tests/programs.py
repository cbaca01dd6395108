"""What tests compile: how, where it is kept, and when a process lets go of it."""

import contextlib
import functools
import gc
import os
import pathlib

import jax
import pytest
from jax._src import compiler

from cachefl_jax.compiled import replace_damaged_entries
from cachefl_jax.storage.home import COMPILED

MAPS = pathlib.Path("/proc/self/maps")  # Linux lets a process have 65,530, and XLA crashes at the next one
MANY_MAPS = 20_000

LEAST = "jax_disable_most_optimizations"
# XLA writes kernels as LLVM's code at once, not by way of MLIR, and as one module: a program is compiled in half the
# time, and takes longer to run.
PLAIN = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
GIVEN = os.environ.get("XLA_FLAGS", "")


@functools.cache
def plain() -> dict[str, bool | int]:
    """Those of `PLAIN` that this jaxlib knows: the first has gone from later ones, which end at a flag like that."""
    program, known = jax.jit(lambda: 0).lower(), {}
    for name, value in PLAIN.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            program.compile({name: value})
            known[name] = value
    return known


def compiled_as(quick: bool) -> dict[str, str]:
    """What makes a process that is started compile as quick tests do, or as a user's does."""
    flags = [f"--{name}={value}" for name, value in plain().items() if quick]
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(quick)), "XLA_FLAGS": " ".join([GIVEN, *flags])}


def is_quick(item: pytest.Item) -> bool:
    """Whether programs of a test, and of processes that it starts, are compiled without LLVM's optimisations, which
    take longer than the rest of it, and to `PLAIN` kernels. No test that holds different programs to the same bits is
    marked so."""
    return item.get_closest_marker("quick") is not None


@pytest.fixture(scope="session", autouse=True)
def plain_kernels():
    """JAX takes such options for one program at a time. It makes them in one place, where a quick test's are added."""
    made = compiler.get_compile_options

    def get_compile_options(*arguments, **named):
        options = made(*arguments, **named)
        if jax.config.read(LEAST):
            options.env_option_overrides = [*options.env_option_overrides, *plain().items()]
        return options

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", get_compile_options)
        yield


def pytest_collection_finish() -> None:
    """What modules and collected tests hold is never garbage. Nor is it looked through at every search for it, and
    tracing makes objects in such numbers that searches are seldom worth their time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests come last, as a process forgets its programs before it goes on with them."""
    items.sort(key=is_quick)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture compiles."""
    quick = is_quick(item)
    if jax.config.read(LEAST) != quick:
        for_children = compiled_as(quick)  # compiles, so this process, which reads XLA_FLAGS once, has read its own
        jax.config.update(LEAST, quick)
        os.environ.update(for_children)
        jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """A process that has compiled thousands of programs lets go of them between files of tests."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    """Synthetic sets are drawn for this session alone, never found in the user's store. What one process of it has
    compiled, as most of the time would go into that, the others find there too."""
    folder, store = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("store")
    programs = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / COMPILED
    programs.mkdir(exist_ok=True)
    (store / COMPILED).symlink_to(programs)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    replace_damaged_entries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHEFL_HOME", str(store))
        yield
