"""Features that every site sends once: the server trains on what all of them have sent, with no round between.

What a site sends of each training row is its CLIP feature and its label, in the fewest bytes that hold a class; of
several views of its rows, all. What comes back, once, is the model. Axis letters: n rows, N classes, V views,
D features.
"""

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.aligned import empty
from cachefl_jax.data import Split, everything
from cachefl_jax.federation import tree_bytes
from cachefl_jax.methods import Method
from cachefl_jax.simulation.build import Learner, problem, training_data
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.storage.files import check_room


def pooled(config: ConfigDict, inputs: Inputs, method: Method) -> Inputs:
    """The inputs of a server that holds what all sites have sent, as one client: features rounded to the type that
    they travel in, and after them, where `features_once.server_rows` says so, the server's own rows.

    Raises UsageError: there is no memory for them."""
    bank, dtype = inputs.bank, np.dtype(config.features_once.dtype)
    own = np.zeros((0, bank.width), np.float32)
    if config.features_once.server_rows and method.closed_form is None:
        own = inputs.server.synthetic.reshape(-1, bank.width)
    labels = np.repeat(np.arange(bank.classes), len(own) // bank.classes).astype(bank.train.labels.dtype)
    labels = np.concatenate([bank.train.labels, labels])
    views = bank.train.features[None] if bank.train_views is None else bank.train_views
    if dtype != np.float32 or len(own):
        views = joined(views, own, dtype)
    train_views = None if bank.train_views is None else views
    bank = bank._replace(train=Split(views[0], labels), train_views=train_views)
    return inputs._replace(bank=bank, partition=everything(len(labels)))


def joined(views: np.ndarray, own: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """[V, n, D] rounded to `dtype`, each view with the server's own rows after it; float32.

    Raises UsageError: there is no memory for them."""
    count, rows, width = views.shape
    shape = (count, rows + len(own), width)
    check_room("compare", "what all sites have sent", 4 * int(np.prod(shape)), "drop features_once, or free memory")
    found = empty(shape, np.float32)
    for sent, view in zip(found, views, strict=True):
        sent[:rows], sent[rows:] = view.astype(dtype), own
    return found


def at_the_server(config: ConfigDict, learner: Learner, inputs: Inputs) -> Learner:
    """The learner with the rows of `pooled` instead of the clients'; it is scored as before."""
    held = training_data(learner.method, inputs, Shared(), ordered=False)
    return learner._replace(
        problem=problem(config, learner.method, learner.score.frozen, held), client_rows=inputs.partition.sizes
    )


def traffic_once(config: ConfigDict, inputs: Inputs, params) -> tuple[float, int, int]:
    """(up, the mean over clients; down, each client's; both of all clients): bytes in the whole run.

    Args:
        inputs: the federation's.
        params: what the server sends back.
    """
    bank, clients = inputs.bank, inputs.partition.clients
    views = 1 if bank.train_views is None else len(bank.train_views)
    feature = bank.width * np.dtype(config.features_once.dtype).itemsize
    label = np.min_scalar_type(bank.classes - 1).itemsize
    up, down = int(inputs.partition.sizes.sum()) * (views * feature + label), tree_bytes(params)
    return up / clients, down, up + clients * down
