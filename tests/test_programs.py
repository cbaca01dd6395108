"""Quick tests and what they start are compiled in another way than the others, each as its own marker says."""

import json
import subprocess
import sys

import jax
import pytest
from jax._src import compiler
from programs import PLAIN, plain

CODE = """
import json, os, jax
from jax._src import compiler
options = compiler.get_compile_options(1, 1).executable_build_options.debug_options
print(json.dumps([os.environ.get("XLA_FLAGS", ""), options.xla_backend_optimization_level]))
"""


def of_a_process() -> tuple[str, int]:
    """The flags that a new process has, and how far its LLVM optimises."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


@pytest.mark.quick
def test_a_quick_test_has_plain_kernels_without_optimisations(monkeypatch):
    made, seen = compiler.get_compile_options, []
    monkeypatch.setattr(
        compiler, "get_compile_options", lambda *some, **more: seen.append(made(*some, **more)) or seen[-1]
    )
    jax.jit(lambda x: x + 1).lower(1.0).compile()
    (options,) = seen
    assert dict(options.env_option_overrides) == plain()
    assert options.executable_build_options.debug_options.xla_backend_optimization_level == 0
    flags, level = of_a_process()
    assert level == 0
    assert all(f"--{name}={value}" in flags.split() for name, value in plain().items())


def test_another_test_compiles_as_its_user_does():
    options = compiler.get_compile_options(1, 1)
    assert not options.env_option_overrides
    assert options.executable_build_options.debug_options.xla_backend_optimization_level > 0
    flags, level = of_a_process()
    assert level > 0
    assert not any(name in flags for name in PLAIN)


def test_an_option_that_this_jaxlib_lacks_is_left_out(monkeypatch):
    monkeypatch.setitem(PLAIN, "xla_cpu_no_such", True)
    assert plain.__wrapped__() == plain()
