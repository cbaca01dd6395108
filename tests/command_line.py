"""The commands as a user starts them, and what their refusals look like.

Most of a refusal's time goes into imports. `Prefork` pays for them once: a process that has imported what the commands
need splits itself in two for every call, and one half becomes the command, from its first line to the interpreter's
end. Run as a program, this file is that process.
"""

import gc
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping

# What takes long and may be there before a command begins: nothing of it starts JAX's backends or any thread.
HEAVY = ("clip.encoder", "simulation.train", "simulation.server_set", "simulation.encoded")
PATIENCE = 120  # seconds until a command that hangs is ended


def run(*arguments: str, command: str = "run") -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", f"experiments.{command}", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)


def assert_refused(done: subprocess.CompletedProcess, *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in (*parts, "allowed:", "mend:"):
        assert part in done.stderr, done.stderr


class Prefork:
    """`run`, at a fraction of its time.

    Args:
        folder: where what the commands print is kept, until the next call.
        environment: of the commands, beside what this process has.
    """

    def __init__(self, folder: pathlib.Path, environment: Mapping[str, str]):
        self.printed = {"stdout": folder / "stdout", "stderr": folder / "stderr"}
        words = [sys.executable, __file__, *map(str, self.printed.values())]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, **pipes, env=os.environ | environment)

    def __call__(self, *arguments: str, command: str = "run", **environment: str) -> subprocess.CompletedProcess:
        call = {"arguments": [f"experiments.{command}", *arguments], "environment": environment}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        text = {name: path.read_text() for name, path in self.printed.items()}
        return subprocess.CompletedProcess(arguments, status, text["stdout"], text["stderr"])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def next_call(printed: list[str]) -> dict | None:
    """In the half that becomes a command: its call, with output going into files. None when there are no more."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(PATIENCE)
            for descriptor, path in enumerate(printed, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def main() -> None:
    sys.path[0] = os.getcwd()  # as python -m has it
    for module in HEAVY:
        __import__(f"cachefl_jax.{module}")
    gc.freeze()  # the halves share what is there already; collecting it would copy it
    call = next_call(sys.argv[1:])
    if call:
        os.environ.update(call["environment"])
        sys.argv = call["arguments"]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
