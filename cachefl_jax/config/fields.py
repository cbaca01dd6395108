"""A config, put together: each part brings its fields, what it demands of others, and what has no effect when.

A new field is one entry in its part's file; a new part is a file and a line here. `cachefl_jax.config.default` is made
from this, `python -m experiments.fields` prints it, and every config is held to it. Nothing here waits for JAX. What a
user's component brings on top is in `cachefl_jax.config.components`.
"""

from cachefl_jax.config.client import CLIENT
from cachefl_jax.config.compression import COMPRESSION
from cachefl_jax.config.data import DATA
from cachefl_jax.config.encoder import ENCODER
from cachefl_jax.config.engine import ENGINE
from cachefl_jax.config.hostile import HOSTILE
from cachefl_jax.config.method import METHOD
from cachefl_jax.config.partition import PARTITION
from cachefl_jax.config.poc import POC
from cachefl_jax.config.privacy import PRIVACY
from cachefl_jax.config.regimes import REGIMES
from cachefl_jax.config.round import ROUND
from cachefl_jax.config.run import RUN
from cachefl_jax.config.secure import SECURE_SUMS
from cachefl_jax.config.sites import SITES
from cachefl_jax.config.study import STUDY
from cachefl_jax.config.synthesis import SYNTHESIS

PARTS = (
    RUN,  # seed, rounds, eval_every, checkpoint_every, evaluation.*
    DATA,  # data.*: where the rows come from
    ENCODER,  # clip.*: what makes features of images
    SYNTHESIS,  # synthesis.*: what the server draws
    PARTITION,  # partition.*: who holds what
    METHOD,  # method, compare, cache.*: what is trained and compared
    REGIMES,  # features_once.*, personal.*: other ways to train it than the federation's
    CLIENT,  # local.*: what a client does in a round
    ROUND,  # participation.*, cohort; updates.*, aggregation.*; server.*: who takes part, what becomes of the updates
    SITES,  # participation.*: how fast sites are, when they are there, how long the server waits
    PRIVACY,  # privacy.*: differential privacy of the rounds
    SECURE_SUMS,  # secure.*: sums of which the server sees nothing else
    HOSTILE,  # hostile.*: clients that want the model to fail
    COMPRESSION,  # updates.*, downloads.*: in which bytes updates and params travel
    ENGINE,  # engine.*: how it is computed
    STUDY,  # study.*: how much a study tries
    POC,  # poc.*: what a proof of concept is asked beside the run
)
FIELDS = tuple(field for part in PARTS for field in part.fields)
