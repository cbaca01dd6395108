"""Commands that start at once: a process that has imported what they need splits itself in two for each.

Each becomes a process group of its own, so that it can be killed whole, at any moment from its first line on.
"""

import gc
import json
import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence

# What takes long and may be there before a command begins: nothing of it starts JAX's backends or any thread.
HEAVY = ("clip.encoder", "simulation.train", "simulation.server_set", "simulation.encoded")


class Forks:
    """Starts `python -m experiments.COMMAND` without its imports' time; a context manager.

    Args:
        environment: variables for all commands, such as JAX's own, which it reads when it is imported.
    """

    def __init__(self, environment: Mapping[str, str]):
        self.environment = os.environ | environment

    def __enter__(self) -> "Forks":
        words = [sys.executable, "-m", __name__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(words, env=self.environment, text=True, **pipes)
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> int:
        """Starts a command and gives its process, which leads a group of its own.

        Args:
            words: its name in `experiments`, and its flags.
            environment: variables for this command.
            log: the file that its stdout and stderr go to.
        """
        return self.ask({"words": list(words), "environment": dict(environment), "log": str(log)})

    def wait(self, process: int) -> int:
        """Waits for the end of a command; its exit status, or minus the signal that ended it."""
        return self.ask({"process": process})

    def ask(self, call: dict) -> int:
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def serve() -> dict | None:
    """Answers calls until there are no more; in a half that becomes a command, gives its call."""
    for line in sys.stdin:
        call = json.loads(line)
        if "process" in call:
            print(os.waitstatus_to_exitcode(os.waitpid(call["process"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if not child:
            os.setsid()
            log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(source, target)
            return call
        print(child, flush=True)
    return None


def main() -> None:
    for module in HEAVY:
        __import__(f"cachefl_jax.{module}")
    gc.freeze()  # the halves share what is there already; collecting it would copy it
    call = serve()
    if call:
        os.environ.update(call["environment"])
        name, *words = call["words"]
        sys.argv = [f"experiments.{name}", *words]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
