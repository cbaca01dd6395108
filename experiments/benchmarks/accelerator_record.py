"""Readings as JSON lines, and what a reading takes: time, and keys that are held against a first one's."""

import json
import pathlib
import time
from collections.abc import Callable

import numpy as np

LEAST_SECONDS, MOST_CALLS = 1.0, 15


class Record:
    """The readings so far, in a file and in memory."""

    def __init__(self, folder: pathlib.Path, seconds: float):
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.began, self.seconds = folder / "readings.jsonl", time.perf_counter(), seconds
        self.file.write_text("")
        self.lines: list[dict] = []

    def say(self, section: str, **fields) -> None:
        """One reading more."""
        line = {"section": section, **fields, "at_s": round(time.perf_counter() - self.began, 1)}
        self.lines.append(line)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def take(self, section: str, measure: Callable[[], dict], **names) -> None:
        """What `measure` gives, with these names; that it failed; or that no time was left for it."""
        if time.perf_counter() - self.began > self.seconds:
            self.say(section, **names, skipped="no time left")
            return
        try:
            self.say(section, **names, **measure())
        except Exception as error:  # whatever a library raises on this card
            self.say(section, **names, error=f"{type(error).__name__}: {error}"[:500])


def timed(call: Callable[[], object], rounds: int = 1, least: float = LEAST_SECONDS) -> dict:
    """Milliseconds a round, median and best, of calls that do so many rounds each and end when they are done."""
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < least and len(taken) < MOST_CALLS):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) / rounds)
    return {"ms": 1e3 * float(np.median(taken)), "best_ms": 1e3 * min(taken)}


class Reference:
    """The keys after one round that all others are held against: the first that come."""

    def __init__(self, start: np.ndarray):
        self.start, self.keys = start.reshape(-1, start.shape[-1]).copy(), None

    def held(self, keys: np.ndarray) -> dict:
        """The largest difference to the first, and how far that one moved."""
        keys = keys.reshape(self.start.shape)
        self.keys = keys.copy() if self.keys is None else self.keys
        moved = float(np.abs(self.keys - self.start).max())
        return {"off": float(np.abs(keys - self.keys).max()), "moved": moved}
