"""What the federation is compared with: CLIP untuned, the cache untuned, each client alone, everybody in one place.

Each function gives a method's entry in summary.json.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import costs
from cachefl_jax.data import everything
from cachefl_jax.federation import Clients, repeat_views
from cachefl_jax.run_files import read_baselines
from experiments.build import Learner
from experiments.prepare import Inputs
from experiments.workdir import Workdir


def compare(config: ConfigDict, inputs: Inputs, learner: Learner, workdir: Workdir) -> dict[str, dict]:
    """Every method but the federation's own, each finished one kept in baselines.json so that no resume redoes it;
    those of fewer rounds are trained again."""
    results = read_baselines(workdir.baselines) if workdir.baselines.is_file() else {}
    results = {name: row for name, row in results.items() if row.get("rounds") in (0, config.rounds)}
    runners = {
        "zero_shot": zero_shot,
        "cache_init": cache_init,
        "local_only": local_only,
        "centralized": centralized,
    }
    for name in config.methods:
        if name in runners and name not in results:
            results[name] = runners[name](config, inputs, learner)
            workdir.write_json(workdir.baselines, results)
    return results


def zero_shot(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """CLIP by its prompts alone; without text features it has no answer to be right about."""
    if inputs.bank.text_features is None:
        return result(None, None)
    return result(*learner.score(learner.zero_shot_accuracy, ()))


def cache_init(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """The synthetic cache as the server sends it, untuned: it travels down once."""
    down = costs.tree_bytes(learner.params)
    scores = learner.score(learner.accuracy, learner.params)
    return result(*scores, down=down, total=down * config.partition.clients)


def local_only(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """Each client alone for as many rounds, on the same test rows; the mean over clients, unweighted."""
    count, scores, seconds = config.partition.clients, [], 0.0
    for client in tqdm(range(count), desc="local only", unit="client", leave=False, disable=None):
        params, taken = train_alone(config, learner, learner.alone, client, learner.problem.clients)
        scores.append(learner.score(learner.accuracy, params))
        seconds += taken
    test, validation = ([score[part] for score in scores] for part in (0, 1))
    mean_validation = None if validation[0] is None else float(np.mean(validation))
    down = costs.tree_bytes(learner.params)
    return result(
        float(np.mean(test)), mean_validation, rounds=config.rounds, down=down, total=down * count,
        flops=round_flops(config, inputs, len(inputs.bank.train.labels) / count),
        seconds=seconds / config.rounds if config.rounds else None,
        test_accuracy_min=min(test), test_accuracy_max=max(test),
    )  # fmt: skip


def centralized(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """The same training on everybody's rows: a federation of one client that holds them all."""
    rows = len(inputs.bank.train.labels)
    whole = everything(rows)
    clients = Clients(whole.offsets.astype(np.int32), whole.indices.astype(np.int32))
    clients = repeat_views(clients, learner.local.views)
    params, seconds = train_alone(config, learner, learner.central, 0, clients)
    return result(
        *learner.score(learner.accuracy, params), rounds=config.rounds, up=None, down=None, total=None,
        flops=round_flops(config, inputs, rows), seconds=seconds / config.rounds if config.rounds else None,
    )  # fmt: skip


def train_alone(config: ConfigDict, learner: Learner, alone: Callable, client: int, clients: Clients):
    """(params, seconds) of one client's rounds without a federation; compiled before the clock starts."""
    problem = learner.problem
    arrays = jax.device_put((clients, problem.data, problem.frozen, problem.hyper))
    start = jax.device_put(learner.params)

    def train(number: int, params):
        return alone(problem.key, jnp.asarray(number), jnp.asarray(client), params, *arrays)

    jax.block_until_ready(train(0, start))
    params, began = start, time.perf_counter()
    # The bar is for large banks: where a client is done within two seconds none appears.
    for number in tqdm(range(config.rounds), desc="rounds", leave=False, disable=None, delay=2):
        params = jax.block_until_ready(train(number, params))
    return params, time.perf_counter() - began


def round_flops(config: ConfigDict, inputs: Inputs, rows: float) -> float:
    """FLOPs of a round at a client of `rows` rows."""
    return costs.cache_training_flops(rows * config.local.epochs, *inputs.keys.shape)


def result(
    test: float | None, validation: float | None, *, rounds: int = 0, up: int | None = 0, down: int | None = 0,
    total: int | None = 0, flops: float = 0.0, seconds: float | None = None, **more: float,
) -> dict:  # fmt: skip
    """A method's entry in summary.json. Bytes are null where nothing federated happened that could be counted."""
    return {
        "test_accuracy": test, "validation_accuracy": validation, "rounds": rounds,
        "uplink_bytes_per_client_round": up, "downlink_bytes_per_client_round": down, "total_bytes": total,
        "client_flops_per_round": flops, "seconds_per_round": seconds, **more,
    }  # fmt: skip
