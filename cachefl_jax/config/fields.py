"""A config, put together: each part brings its fields, what it demands of others, and what it leaves without effect.

A new field is one entry in its part's file; a new part is a file and a line here. `cachefl_jax.config.default` is made
from this, `python -m experiments.fields` prints it, and every config is held to it. Nothing here waits for JAX. What a
user's component brings on top is in `cachefl_jax.config.components`.
"""

from cachefl_jax.config.client import CLIENT
from cachefl_jax.config.data import DATA
from cachefl_jax.config.encoder import ENCODER
from cachefl_jax.config.engine import ENGINE
from cachefl_jax.config.evaluation import EVALUATION
from cachefl_jax.config.method import METHOD
from cachefl_jax.config.participation import PARTICIPATION
from cachefl_jax.config.partition import PARTITION
from cachefl_jax.config.run import RUN
from cachefl_jax.config.server import SERVER
from cachefl_jax.config.synthesis import SYNTHESIS
from cachefl_jax.config.updates import UPDATES

PARTS = (
    RUN,  # seed, rounds, how often it evaluates and saves
    DATA,  # data.*: where the rows come from
    ENCODER,  # clip.*: what makes features of images
    SYNTHESIS,  # synthesis.*: what the server draws
    PARTITION,  # partition.*: who holds what
    METHOD,  # method, compare, cache.*: what is trained
    PARTICIPATION,  # participation.*, cohort: who takes part in a round
    CLIENT,  # local.*: what a client does in it
    UPDATES,  # updates.*, aggregation.*: what becomes of its update
    SERVER,  # server.*: what the server does with them all
    ENGINE,  # engine.*: on which devices, in which order
    EVALUATION,  # evaluation.*: what is measured
)
FIELDS = tuple(field for part in PARTS for field in part.fields)
