"""How something is trained together: local steps, the round, the server; over any params pytree with a loss."""

from cachefl_jax.federation.evaluate import make_accuracy, make_alone
from cachefl_jax.federation.local import CLIENT_OPTIMIZERS, Hyper, LocalTraining, plan_batches, train_client
from cachefl_jax.federation.round import (
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    RoundMetrics,
    ServerState,
    draw_cohort,
    everybody,
    init_server,
    make_round,
)

__all__ = [
    "CLIENT_OPTIMIZERS",
    "SERVER_OPTIMIZERS",
    "Clients",
    "Cohort",
    "Hyper",
    "LocalTraining",
    "RoundMetrics",
    "ServerState",
    "draw_cohort",
    "everybody",
    "init_server",
    "make_accuracy",
    "make_alone",
    "make_round",
    "plan_batches",
    "train_client",
]
