"""A process of a run that is lost: one line from each that is left, instead of what JAX makes of it.

JAX's coordination service notices that a process is gone and aborts all others from a thread of C++, in pages of text.
So what C++ writes to standard error goes through a pipe, which a thread of ours reads: it hands everything on but the
service's own words, and ends the process by itself where these say that another is lost. An abort waits for that thread
a few seconds; any other abort happens as it would, that much later.
"""

import atexit
import contextlib
import ctypes
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import jax

from cachefl_jax import interrupts
from cachefl_jax.errors import REFUSALS, UsageError

HEARTBEAT = 20  # seconds without a sign of life after which a process counts as lost
PATIENCE = HEARTBEAT + 20  # seconds in which the service tells which process that was
FAREWELL = 10  # seconds that a process which was refused waits for the others to be refused too
HINT = "the same command in every process goes on"
ENTRY = re.compile(r"[IWEF]\d{4} ")  # how a line of C++'s log begins
SERVICE = re.compile(r"[IWEF]\d{4} .*(coordination_service|distributed/client\.h|client\.h:\d+\] Terminating process)")
FATAL, TRACE = "Terminating process because the JAX distributed service", "*** Check failure stack trace"


class Watch:
    """What this process knows of its peers' end."""

    def __init__(self):
        self.on = False
        self.leaving: int | None = None  # the status that this process is about to leave with by itself
        self.processes = 1  # as they were told by number, this one among them; unlike JAX's, known before it starts


state = Watch()


def watch() -> None:
    """From now on the end of another process is one line. Before `jax.distributed.initialize`, in the main thread."""
    sys.stderr.flush()
    shown = os.dup(2)
    sys.stderr = os.fdopen(os.dup(shown), "w", buffering=1, errors="backslashreplace")
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    atexit.register(os.dup2, shown, 2)
    # An abort calls this with the signal's number: it sleeps for 6 seconds, and returns to the abort.
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
    threading.Thread(target=relay, args=(reading, shown), name="peers", daemon=True).start()
    state.on = True


def relay(reading: int, shown: int) -> NoReturn:
    """In a thread: hands on what C++ writes, but for the service's words; ends the process where these are the last."""
    words, rest, in_service = "", b"", False
    while True:
        over = FATAL in words and (TRACE in words or not select.select([reading], [], [], 0.5)[0])
        if over:
            end(words)
        *lines, rest = (rest + os.read(reading, 65536)).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            in_service = bool(SERVICE.match(text)) or (in_service and not ENTRY.match(text))
            if in_service:
                words += f"{text}\n"
            else:
                os.write(shown, line + b"\n")


def end(words: str) -> NoReturn:
    if state.leaving is not None:
        os._exit(state.leaving)
    interrupts.tell(f"{lost(words)}; {HINT}")
    os._exit(1)


def lost(words: str) -> str:
    """Which process is gone, by the coordination service's words."""
    listed = re.search(r"unhealthy[^\n]*:\n((?:[^\n]*\d+\n)+)", words)
    numbers = sorted(set(map(int, re.findall(r"(\d+)\n", listed[1])))) if listed else []
    if not numbers and "Failed to send RPC to coordination service" in words:
        numbers = [0]  # it is the one that the others talk to
    told = ", ".join(map(str, numbers))
    which = (
        f"processes {told} were" if len(numbers) > 1 else f"process {told} was" if numbers else "another process was"
    )
    return f"{which} lost: killed, ended, or out of reach"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Work that several processes do in step. One that is refused leaves without waiting long for the others; an error
    that a lost process is the cause of is told as that."""
    try:
        yield
    except UsageError as error:
        if not state.on:
            raise
        print(error, file=sys.stderr)
        leave(2)
    except Exception as error:
        if state.on and not (isinstance(error, OSError) and error.errno in REFUSALS):  # a full disk is this one's own
            time.sleep(PATIENCE)  # the thread above ends this process, if another is the cause
        raise


def leave(status: int) -> NoReturn:
    """Ends this process; with the others, if they leave as well."""
    state.leaving = status
    farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    farewell.start()
    farewell.join(FAREWELL)
    interrupts.end(status)
