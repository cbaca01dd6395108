"""A damaged compiled program is compiled anew and replaced, without a word."""

import subprocess
import sys
import zlib

PROGRAM = """
import sys
import jax, jax.numpy as jnp
from cachefl_jax.compiled import replace_damaged_entries
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
replace_damaged_entries()
replace_damaged_entries()
print([jax.jit(lambda x, n=n: jnp.sin(n * x).sum())(jnp.arange(9.0)).item() for n in range(1, 5)])
"""
HARMS = [
    lambda data: data[: len(data) // 2],
    lambda data: b"garbage" * 100,
    lambda data: b"",
    lambda data: zlib.compress(b"garbage" * 100),
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),
]


def run(folder) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_damaged_programs_are_replaced_in_silence(tmp_path):
    first = run(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    entries = {path: path.read_bytes() for path in sorted(tmp_path.glob("*-cache"))}
    assert len(entries) >= len(HARMS)
    for number, (path, data) in enumerate(entries.items()):
        path.write_bytes(HARMS[number % len(HARMS)](data))
    again = run(tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    for path, data in entries.items():
        assert len(path.read_bytes()) > 0.9 * len(data), path  # whole again; a program carries its time of compiling
    done = run(tmp_path)
    assert (done.stdout, done.stderr) == (first.stdout, "")


def test_programs_that_cannot_be_kept_are_compiled_in_silence(tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    done = run(file / "compiled")
    assert (done.returncode, done.stderr) == (0, "")
