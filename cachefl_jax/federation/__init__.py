"""How something is trained together: local steps, the round, the server; over any params pytree with a loss."""

from cachefl_jax.federation.cohort import draw_cohort, everybody
from cachefl_jax.federation.evaluate import Figures, Scores, figures, make_scores, score_rows
from cachefl_jax.federation.local import Linear, LocalTraining, plan_batches, train_client
from cachefl_jax.federation.optimizers import CLIENT_OPTIMIZERS, Hyper
from cachefl_jax.federation.plan import Plan, Shapes, fits_dual, make_plan
from cachefl_jax.federation.problem import (
    Clients,
    Cohort,
    Problem,
    RoundMetrics,
    ServerState,
    in_client_order,
    repeat_views,
)
from cachefl_jax.federation.round import init_server, make_round, prepare
from cachefl_jax.federation.run import add_gram, compile_run, place, train_rounds
from cachefl_jax.federation.separate import (
    NOBODY,
    make_separate,
    make_separate_scores,
    place_locally,
    seen_locally,
    split_by_size,
    start_all,
)
from cachefl_jax.federation.server import SERVER_OPTIMIZERS, ServerHyper
from cachefl_jax.federation.sweep import Outcome, Point, make_sweep, stack

__all__ = [
    "CLIENT_OPTIMIZERS",
    "NOBODY",
    "SERVER_OPTIMIZERS",
    "Clients",
    "Cohort",
    "Figures",
    "Hyper",
    "Linear",
    "LocalTraining",
    "Outcome",
    "Plan",
    "Point",
    "Problem",
    "RoundMetrics",
    "Scores",
    "ServerHyper",
    "ServerState",
    "Shapes",
    "add_gram",
    "compile_run",
    "draw_cohort",
    "everybody",
    "figures",
    "fits_dual",
    "in_client_order",
    "init_server",
    "make_plan",
    "make_round",
    "make_scores",
    "make_separate",
    "make_separate_scores",
    "make_sweep",
    "place",
    "place_locally",
    "plan_batches",
    "prepare",
    "repeat_views",
    "score_rows",
    "seen_locally",
    "split_by_size",
    "stack",
    "start_all",
    "train_client",
    "train_rounds",
]
