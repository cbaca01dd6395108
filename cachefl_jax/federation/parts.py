"""What a round is made of: a skeleton with parts to choose, each a small file of its own."""

from collections.abc import Callable
from typing import NamedTuple

import optax

from cachefl_jax.federation.aggregation import Aggregation, mean
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.mechanism import Mechanism
from cachefl_jax.federation.participation import Participation
from cachefl_jax.federation.participation import cohort as fixed_size
from cachefl_jax.federation.server import ServerHyper, sgd
from cachefl_jax.federation.transforms import Transform

Sizes = tuple[tuple[int, int], ...]  # (rows, how many clients have so many), the largest first, without empty clients


class Federation(NamedTuple):
    """The static half of a federation; `problem.Problem` is the other.

    Attributes:
        local: what a client does with its rows, and by which algorithm.
        server: takes the negated aggregate as its gradient.
        participation: who takes part in a round.
        cohort: the size that participation is given; 0: all.
        transforms: what happens to an update before the server sees it, in this order.
        aggregation: how updates become one aggregate.
        drift: whether rounds measure `problem.Drift`.
        sizes: of all clients, where the program is for these sizes alone (`timetable.with_sizes`); (): for any.
        exact: of a fold's federation: `sizes` are those of a cohort's places, as they are; else the most that a place
            may have.
        mechanism: what the server does with the aggregate before its step.
        downloads: what happens to the change of the params on its way to the clients, who all get the same.
        partial: whether clients may do fewer steps than their rows ask for (`schedule.Pace.steps`).
        versions: H, of how many rounds the server keeps the params because clients start from them
            (`schedule.Pace.ages`); 0: all start from the newest.
    """

    local: LocalTraining
    server: Callable[[ServerHyper], optax.GradientTransformation] = sgd
    participation: Participation = fixed_size
    cohort: int = 0
    transforms: tuple[Transform, ...] = ()
    aggregation: Aggregation = mean
    drift: bool = False
    sizes: Sizes = ()
    exact: bool = True
    mechanism: Mechanism | None = None
    downloads: tuple[Transform, ...] = ()
    partial: bool = False
    versions: int = 0

    @property
    def measures(self) -> int | None:
        """The place of the transform that measures the bytes of each update; None where they follow from shapes."""
        return next((at for at, transform in enumerate(self.transforms) if transform.measured is not None), None)

    @property
    def tells(self) -> bool:
        """Whether a transform tells the server something beside the update."""
        return any(transform.tells is not None for transform in self.transforms)
