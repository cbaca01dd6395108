"""Leaving well when a signal asks for it: at once, or as soon as what is running is saved.

A command calls `listen`. Work that is worth finishing runs inside `finishing` and calls `leave_if_asked` where it has
just been saved; anywhere else a signal raises `Interrupted` right away. A second signal always leaves at once, even
from within a long call of a compiled library, where Python's own handlers wait: a thread receives it.

Standard library alone, so that every layer may use it.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # of those, what the platform has
SAME = 0.5  # seconds: launchers such as GNU timeout send a signal to a process and to its group, as one request
FINISHING = "leaving when the work in hand is saved (again: at once)"
AT_ONCE = "left"
HINT = "the same command goes on"


class Interrupted(BaseException):
    """A signal asked to leave. No `Exception`, so that nothing which recovers from errors takes it for one."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def status(self) -> int:
        """The exit status by which shells know it: 130, 143, 129."""
        return 128 + self.number


class Request:
    """What signals have asked of this process so far."""

    def __init__(self):
        self.number: int | None = None
        self.depth = 0  # of nested `finishing`
        self.told = threading.Event()
        self.hint = HINT  # what becomes of the work


request = Request()


def listen() -> None:
    """Turns the signals into requests to leave. One that the process was started to ignore (nohup, a job in the
    background) stays ignored. For the main thread."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handle)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, args=(reading, frozenset(heard)), name="signals", daemon=True).start()


def unlisten() -> None:
    """Gives the signals back to the system: they end the process, without a traceback."""
    for name in NAMES:
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is handle:
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def handle(number: int, _frame) -> None:
    """Notes a signal; raises where nothing is to be finished."""
    request.number = request.number or number
    if not request.depth:
        raise Interrupted(request.number)


def watch(reading: int, heard: frozenset[int]) -> NoReturn:
    """In a thread: says at once what a first signal does, and ends the process at a second."""
    first = None
    while True:
        number = os.read(reading, 1)[0]
        if number not in heard:
            continue
        if first is None:
            first = time.monotonic()
            tell(f"{signal.Signals(number).name}: {FINISHING if request.depth else AT_ONCE}; {request.hint}")
            request.told.set()
        elif time.monotonic() - first > SAME:
            os._exit(128 + number)


def tell(line: str) -> None:
    """Writes a line to stderr, over a progress bar if there is one; past Python's buffers, which may be in use."""
    with contextlib.suppress(OSError, ValueError):
        place = sys.stderr.fileno()
        start = "\r\x1b[K" if os.isatty(place) else ""
        os.write(place, f"{start}{line}\n".encode())


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Inside, a signal is noted, not obeyed: by `leave_if_asked`, or at the end.

    Raises Interrupted: at the end, where a signal came and nothing else was raised."""
    request.depth += 1
    try:
        yield
    finally:
        request.depth -= 1
    leave_if_asked()


def asked() -> int | None:
    """The signal that asked to leave."""
    return request.number


def leave_if_asked() -> None:
    """For a moment at which everything is saved. Raises Interrupted: a signal asked to leave."""
    if request.number is not None:
        raise Interrupted(request.number)


def leave(interrupted: Interrupted) -> NoReturn:
    """Ends the process with the signal's status."""
    request.told.wait(SAME)
    end(interrupted.status)


def end(status: int) -> NoReturn:
    """Ends the process; threads at work are not waited for, as all files are whole."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
