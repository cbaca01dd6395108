"""What the tests' commands are split off from: a process of one thread, or a half of it may wait for ever."""

import subprocess
import sys

from command_line import HEAVY

PROGRAM = """
import importlib, threading
for name in {names}:
    importlib.import_module("cachefl_jax." + name)
from jax._src import xla_bridge
print(list(xla_bridge._backends), threading.active_count())
"""


def test_no_import_starts_jax_or_a_thread():
    words = [sys.executable, "-c", PROGRAM.format(names=HEAVY)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[0] == "[] 1"
