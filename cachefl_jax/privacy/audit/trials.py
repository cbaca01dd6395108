"""Many runs with and without canaries, as one program."""

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from cachefl_jax.federation import Plan, init_server, train_rounds
from cachefl_jax.privacy.audit.canary import Audited

AT_ONCE = 64  # trials side by side on an accelerator; a CPU runs one after another
A_CALL = 256  # trials


def run_trials(audited: Audited, keys: jax.Array, inside: np.ndarray) -> np.ndarray:
    """What is seen in each trial, [T, R, W], for keys [T] and whether the canaries are in, [T] or [T, W]."""
    (federation, params, problem, rounds), plan = audited.run, Plan("scan")

    def one(key, inside, problem):
        problem = audited.enter(problem._replace(key=key), inside)
        state = init_server(federation, params, problem)
        state, _ = train_rounds(federation, plan, 1, state, jnp.int32(rounds), problem)
        return audited.seen(state)

    @jax.jit
    def some(keys, inside, problem):
        side_by_side = None if jax.default_backend() == "cpu" else AT_ONCE
        return jax.lax.map(lambda each: one(*each, problem), (keys, inside), batch_size=side_by_side)

    found, problem = [], jax.device_put(problem)
    for first in tqdm(range(0, len(keys), A_CALL), desc="canaries", disable=None):
        part = slice(first, min(first + A_CALL, len(keys)))
        found.append(jax.device_get(some(keys[part], inside[part], problem)))
    return np.concatenate(found)


def in_and_out(audited: Audited, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """([T, R] with the canary, [T, R] without), of T trials each, every one with a key of its own."""
    keys, inside = jax.random.split(jax.random.key(seed), 2 * trials), np.arange(2 * trials) % 2 == 0
    seen = run_trials(audited, keys, inside)[..., 0]
    return seen[inside], seen[~inside]
