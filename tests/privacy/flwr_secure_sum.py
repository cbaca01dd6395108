"""What Flower's SecAgg+ adds up, in figures that our protocol is held to (test_secure_protocol.py).

    pip install flwr==1.42.0
    python tests/privacy/flwr_secure_sum.py > tests/privacy/flwr_secure_sum.json

Its workflow and its clients' mod exchange their own messages, here by function calls; clients that are gone answer the
request for their update with an error. Recorded: each client's integers before any mask, who is gone, and the sum that
the workflow has recovered before it turns it into floats. Flower counts a client among its own neighbours; it moves
numbers to above 0 before it rounds them, and sends a weight along, the first integer.
"""

import copy
import importlib
import json
import logging
import random
import sys
from types import SimpleNamespace

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters
from flwr.compat.common import recorddict_compat as compat
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation import secaggplus_workflow as server_side
from flwr.supercore.task_identity import TaskIdentity

client_side = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")  # a function is called so
CLIENTS, NUMBERS, BITS = 10, 24, 32
CASES = [(0, ()), (0, (2, 5, 7)), (6, ()), (6, (1, 8, 9))]  # (other clients that share, 0 = all; who is gone)


class Grid:
    """Carries messages to clients and back."""

    def __init__(self, gone: tuple[int, ...]):
        self.gone, self.integers = gone, {}
        self.contexts = {n: Context(1, n + 1, {}, RecordDict(), {}) for n in range(CLIENTS)}

    def send_and_receive(self, messages, timeout=None):
        return [self.answer(message) for message in messages]

    def answer(self, message):
        message = copy.deepcopy(message)  # clients take out of it what they have read
        number = message.metadata.dst_node_id - 1
        stage = message.content.config_records[client_side.RECORD_KEY_CONFIGS][client_side.Key.STAGE]
        if stage == client_side.Stage.COLLECT_MASKED_VECTORS and number in self.gone:
            return Message(Error(0, "gone"), reply_to=message)
        quantize = client_side.factor_combine
        client_side.factor_combine = lambda factor, arrays: self.note(number, quantize(factor, arrays))
        try:
            return client_side.secaggplus_mod(message, self.contexts[number], self.train)
        finally:
            client_side.factor_combine = quantize

    def note(self, number, arrays):
        self.integers[number] = np.concatenate([np.asarray(array).reshape(-1) for array in arrays]).tolist()
        return arrays

    def train(self, message, context):
        number = message.metadata.dst_node_id - 1
        update = np.random.default_rng(number).normal(0, 1, NUMBERS)
        told = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), 10 * (number + 1), {})
        return Message(compat.fitres_to_recorddict(told, False), reply_to=message)


def run(neighbours: int, gone: tuple[int, ...]) -> dict:
    """One round of Flower's."""
    grid, sums = Grid(gone), []
    empty = ndarrays_to_parameters([np.zeros(NUMBERS)])
    records = {
        MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: 1}),
        MAIN_PARAMS_RECORD: compat.parameters_to_arrayrecord(empty, True),
    }
    chosen = [(SimpleNamespace(node_id=n + 1), FitIns(empty, {})) for n in range(CLIENTS)]
    context = SimpleNamespace(
        state=RecordDict(records),
        strategy=SimpleNamespace(configure_fit=lambda *_: chosen, aggregate_fit=lambda *_: (None, {})),
        client_manager=SimpleNamespace(num_available=lambda: CLIENTS),
        history=None,
    )
    workflow = server_side.SecAggPlusWorkflow(
        neighbours + 1 if neighbours else CLIENTS, 4, max_weight=200.0, clipping_range=2.0,
        quantization_range=2**16, modulus_range=2**BITS,
    )  # fmt: skip
    state = server_side.WorkflowState()
    extract = server_side.factor_extract
    server_side.factor_extract = lambda arrays: sums.append(arrays) or extract(arrays)
    try:
        for stage in ("setup", "share_keys", "collect_masked_vectors", "unmask"):
            assert getattr(workflow, f"{stage}_stage")(grid, context, state), stage
    finally:
        server_side.factor_extract = extract
    total = np.concatenate([np.asarray(array).reshape(-1) for array in sums[-1]])
    integers = {n: grid.integers.get(n, [0] * len(total)) for n in range(CLIENTS)}
    return {"neighbours": neighbours, "gone": list(gone), "integers": integers, "sum": total.tolist()}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (its rounding)
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    json.dump({"flwr": "1.42.0", "bits": BITS, "cases": [run(*case) for case in CASES]}, sys.stdout)
    print()
