"""Which points of its space a row tries next: the first half of the budget all over the space, the other half beside
the best that was found."""

import numbers
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config import Row
from cachefl_jax.errors import UsageError
from cachefl_jax.study.space import OPTIMIZER, Candidate, candidates, grid_of, most_points


class Search:
    """A row's search in a setting. What it asks for follows from the scores that it is told, and from nothing else."""

    def __init__(self, config: ConfigDict, row: Row):
        self.most = most_points(config, row)
        self.space, self.order = grid_of(config, row), list(candidates(config, row))
        self.tried: dict[int, dict[str, Any]] = {}  # values by number
        self.refused: list[tuple[dict[str, Any], UsageError]] = []

    def ask(self, scores: Mapping[int, float]) -> list[Candidate]:
        """What to try next, by the scores of all that was tried; [] when the budget is spent or nothing is left.

        Whoever cannot have one of them says so (`refuse`), and another is asked for in its place."""
        first = -(-self.most // 2)
        if len(self.tried) < first:
            return self.number(self.order_left()[: first - len(self.tried)])
        left = self.most - len(self.tried)
        for best in sorted(self.tried, key=lambda number: (-scores[number], number)):
            if beside := [values for values in self.beside(self.tried[best]) if self.is_new(values)]:
                return self.number(beside[:left])
        return self.number(self.order_left()[:left])

    def refuse(self, candidate: Candidate, error: UsageError) -> None:
        """The method cannot be had with these values or for these data: they count as none."""
        self.refused.append((self.tried.pop(candidate.number), error))

    def number(self, points: list[dict[str, Any]]) -> list[Candidate]:
        """These points as candidates, each with the next number."""
        found = []
        for values in points:
            found.append(Candidate(len(self.tried) + len(self.refused), values))
            self.tried[found[-1].number] = values
        return found

    def is_new(self, values: dict[str, Any]) -> bool:
        return values not in self.tried.values() and values not in [refused for refused, _ in self.refused]

    def order_left(self) -> list[dict[str, Any]]:
        """What was not tried, in the order in which the space is covered."""
        return [candidate.values for candidate in self.order if self.is_new(candidate.values)]

    def beside(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        """The points that differ from these values in one field: by one step of a number, or by any other value. A
        rate is one of its optimizer's: the other optimizer is not beside."""
        found = []
        for field, choices in self.space:
            own = values[field]
            if field == OPTIMIZER.field:
                continue
            if all(isinstance(each, numbers.Real) and not isinstance(each, bool) for each in choices):
                ascending = sorted(choices)
                at = ascending.index(own)
                others = [*ascending[max(at - 1, 0) : at], *ascending[at + 1 : at + 2]]
            else:
                others = [each for each in choices if each != own]
            found += [{**values, field: other} for other in others]
        return found
