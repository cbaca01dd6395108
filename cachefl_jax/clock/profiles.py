"""How fast each site of a federation is, and when it is there: a table, or drawn from distributions.

Axis letter: C clients.
"""

import csv
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.errors import UsageError

FIELD = "participation.profiles"
SPEEDS = ("uplink", "downlink", "latency", "flops")
COLUMNS = (*SPEEDS, "memory", "hours")  # the last two may be left out
HOURS = 24
STREAM = 1  # of the run's seed: `clock.timetable` has another
MEND = "correct the file (docs/sites.md shows one)"


class Profiles(NamedTuple):
    """The sites, [C] float64 each."""

    uplink: np.ndarray  # bit/s
    downlink: np.ndarray  # bit/s
    latency: np.ndarray  # s, one way
    flops: np.ndarray  # operations a second
    memory: np.ndarray  # bytes; infinite where nothing is said of it
    hours: np.ndarray  # [C, 24] bool, in which hours of the virtual day it may begin a round


def profiles_of(name: str, clients: int, seed: int) -> Profiles:
    """The sites by a preset's name or a file's.

    A CSV file, or a list in a JSON file, has a row a site; fewer rows repeat. A JSON object has for each column a
    number, or a log-normal distribution {"median", "spread"}, from which every site draws its own.

    Raises UsageError: there is no such file, or it has something else in it."""
    if name in PRESETS:
        return drawn(PRESETS[name], clients, seed)
    found = contents(pathlib.Path(name))
    if isinstance(found, dict):
        return drawn(found, clients, seed)
    if not isinstance(found, list) or not found:
        raise UsageError(FIELD, f"{name} without rows", "a row a site, or an object of distributions", MEND)
    rows = [parsed(row, f"{name}, row {number}") for number, row in enumerate(found, start=1)]
    return Profiles(*(np.array([rows[client % len(rows)][at] for client in range(clients)]) for at in range(6)))


def instant(clients: int) -> Profiles:
    """Sites that take no time."""
    fast = np.full(clients, np.inf)
    return Profiles(fast, fast, np.zeros(clients), fast, fast, np.ones((clients, HOURS), bool))


def contents(path: pathlib.Path) -> Any:
    """The rows of a table, or the object, that a file has. Raises UsageError: it has neither."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(text.splitlines()))
        return json.loads(text)
    except FileNotFoundError as error:
        allowed = f"{', '.join(PRESETS)}, or a .csv or .json file"
        raise UsageError(FIELD, str(path), allowed, "name one that is there") from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UsageError(FIELD, f"{path}, which cannot be read", "a CSV or JSON file in UTF-8", MEND) from error


def parsed(row: Any, place: str) -> tuple:
    """A site's numbers and hours. Raises UsageError: a column is missing, unknown or no such number."""
    row = columns_of(row, place)
    numbers = [amount(row[column], f"{place}, {column}", least=column != "latency") for column in SPEEDS]
    memory = row.get("memory")
    numbers.append(math.inf if memory in (None, "") else amount(memory, f"{place}, memory"))
    return *numbers, hours_of(row.get("hours") or "", place)


def columns_of(row: Any, place: str) -> dict:
    """The row, which has the columns that it must have and no others. Raises UsageError: it has not."""
    missing = [column for column in SPEEDS if not isinstance(row, dict) or row.get(column) in (None, "")]
    unknown = [str(column) for column in row if column not in COLUMNS] if isinstance(row, dict) else []
    if missing or unknown:
        told = f"without {', '.join(missing)}" if missing else f"with {', '.join(unknown)}"
        allowed = f"{', '.join(SPEEDS)}, and maybe memory and hours"
        raise UsageError(FIELD, f"{place} {told}", allowed, MEND)
    return row


def amount(value: Any, place: str, least: bool = True) -> float:
    """A finite number above 0; with `least` false, 0 too. Raises UsageError: it is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (least and number == 0):
        raise UsageError(FIELD, f"{place} = {value!r}", f"a number, {'above 0' if least else '0 or more'}", MEND)
    return number


def hours_of(text: Any, place: str) -> np.ndarray:
    """[24] bool of hours such as "22-6" or "9-12;14-18"; "" are all. Raises UsageError: they are none."""
    there = np.zeros(HOURS, bool)
    for part in filter(None, str(text).split(";")):
        first, _, after = part.partition("-")
        whole = first.strip().isdecimal() and after.strip().isdecimal()
        begin, end = (int(first), int(after)) if whole else (HOURS, HOURS)
        if begin >= HOURS or end > HOURS or begin == end:
            allowed = "hours of a day such as 22-6 or 9-12;14-18, or nothing for all"
            raise UsageError(FIELD, f"{place}, hours = {text!r}", allowed, MEND)
        there[np.arange(begin, end if end > begin else end + HOURS) % HOURS] = True
    return there if there.any() else ~there


def drawn(columns: dict, clients: int, seed: int) -> Profiles:
    """Sites drawn from a distribution a column. Raises UsageError: as `profiles_of`."""
    columns_of(columns, "the distributions")
    rng, numbers = np.random.default_rng([seed, STREAM]), []
    for column in (*SPEEDS, "memory"):
        median, spread = distribution(columns.get(column), column)
        numbers.append(median * np.exp(spread * rng.standard_normal(clients)))
    return Profiles(*numbers, np.tile(hours_of(columns.get("hours") or "", "the distributions"), (clients, 1)))


def distribution(told: Any, column: str) -> tuple[float, float]:
    """(median, standard deviation of the natural logarithm). Raises UsageError: it is none."""
    if told is None:
        return math.inf, 0.0
    if not isinstance(told, dict):
        return amount(told, column, least=column != "latency"), 0.0
    if told.keys() != {"median", "spread"}:
        allowed = 'a number, or an object of "median" and "spread"'
        raise UsageError(FIELD, f"{column} = {told!r}", allowed, MEND)
    median = amount(told["median"], f"{column}, median", least=column != "latency")
    return median, amount(told["spread"], f"{column}, spread", least=False)
