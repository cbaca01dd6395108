"""How something is trained together: local steps, the round and its parts, the server; over any params pytree with a
loss."""

from cachefl_jax.federation.aggregation import Aggregation, Received, collect
from cachefl_jax.federation.algorithms import ditto, fedavg, fednova, scaffold
from cachefl_jax.federation.evaluate import (
    Figures,
    Scores,
    figures,
    make_scores,
    make_scores_of_models,
    score_models,
    score_rows,
)
from cachefl_jax.federation.hostile import Hostility, hostile_clients, under_attack
from cachefl_jax.federation.local import Linear, LocalTraining, LoopLayout, Poison, plan_batches, train_client
from cachefl_jax.federation.local_only import (
    NOBODY,
    make_local_only,
    make_scores_of_each,
    place_locally,
    seen_locally,
    split_by_size,
    start_all,
)
from cachefl_jax.federation.mechanism import Mechanism, Release
from cachefl_jax.federation.optimizers import CLIENT_OPTIMIZERS, Hyper
from cachefl_jax.federation.participation import Participation, draw_cohort, everybody
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.personal import with_personal_leaves
from cachefl_jax.federation.place import place, place_by_class, unplaced
from cachefl_jax.federation.plan import DUAL_NEEDS, Plan, Shapes, fits_dual, make_plan
from cachefl_jax.federation.primal.client import traffic
from cachefl_jax.federation.problem import (
    Clients,
    Cohort,
    Drift,
    PartHyper,
    PartStates,
    Problem,
    RoundMetrics,
    ServerState,
    in_client_order,
    repeat_views,
    tree_bytes,
)
from cachefl_jax.federation.round import init_server, make_round, prepare
from cachefl_jax.federation.run import add_gram, compile_run, train_rounds
from cachefl_jax.federation.schedule import Pace, Schedule, scheduled
from cachefl_jax.federation.server import SERVER_OPTIMIZERS, ServerHyper
from cachefl_jax.federation.sweep import Outcome, Point, make_sweep, stack
from cachefl_jax.federation.timetable import sizes_of, with_sizes
from cachefl_jax.federation.transforms import Sender, Transform, scaling, stateless
from cachefl_jax.federation.work import Client, ClientWork, Finished, Rows, Start, by_itself

__all__ = [
    "CLIENT_OPTIMIZERS",
    "DUAL_NEEDS",
    "NOBODY",
    "SERVER_OPTIMIZERS",
    "Aggregation",
    "Client",
    "ClientWork",
    "Clients",
    "Cohort",
    "Drift",
    "Federation",
    "Figures",
    "Finished",
    "Hostility",
    "Hyper",
    "Linear",
    "LocalTraining",
    "LoopLayout",
    "Mechanism",
    "Outcome",
    "Pace",
    "PartHyper",
    "PartStates",
    "Participation",
    "Plan",
    "Point",
    "Poison",
    "Problem",
    "Received",
    "Release",
    "RoundMetrics",
    "Rows",
    "Schedule",
    "Scores",
    "Sender",
    "ServerHyper",
    "ServerState",
    "Shapes",
    "Start",
    "Transform",
    "add_gram",
    "by_itself",
    "collect",
    "compile_run",
    "ditto",
    "draw_cohort",
    "everybody",
    "fedavg",
    "fednova",
    "figures",
    "fits_dual",
    "hostile_clients",
    "in_client_order",
    "init_server",
    "make_local_only",
    "make_plan",
    "make_round",
    "make_scores",
    "make_scores_of_each",
    "make_scores_of_models",
    "make_sweep",
    "place",
    "place_by_class",
    "place_locally",
    "plan_batches",
    "prepare",
    "repeat_views",
    "scaffold",
    "scaling",
    "scheduled",
    "score_models",
    "score_rows",
    "seen_locally",
    "sizes_of",
    "split_by_size",
    "stack",
    "start_all",
    "stateless",
    "traffic",
    "train_client",
    "train_rounds",
    "tree_bytes",
    "under_attack",
    "unplaced",
    "with_personal_leaves",
    "with_sizes",
]
