"""What travels between the server and a site, as records of Flower's messages.

query "setup"   server -> site: the method's fields, the class names, the frozen features of the server
                site -> server: its name and how many rows it has
query "refused" server -> site: why the server does not take it, which ends the site
query "ended"   server -> site: the pilot has ended, and with it the site
train           server -> site: the params, the round's number, the site's number, rows of the largest site
                site -> server: the update and its mean loss; or, of either, why the site refuses
"""

import json
from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from cachefl_jax.errors import UsageError
from cachefl_jax.methods import Server

REFUSED = "refused"  # a record's name
SETUP = "setup"  # where a site keeps it from message to message


def setup_record(server: Server, agreed: dict, weights: str, folders: Sequence[str] = ()) -> RecordDict:
    """What a site has to know before it trains.

    Args:
        server: what the server brings.
        agreed: `limits.agreed_fields`.
        weights: the digest of the encoder's weights; "" where features came from a bank.
        folders: what the server's data set calls the folders of its classes, [N], beside their names.
    """
    arrays = ArrayRecord([server.synthetic, server.text, np.float64(server.logit_scale)[None]])
    told = {"agreed": json.dumps(agreed), "classes": json.dumps(list(server.class_names)), "weights": weights,
            "folders": json.dumps(list(folders))}  # fmt: skip
    return RecordDict({"server": arrays, "told": ConfigRecord(told)})


def server_of(content: RecordDict) -> Server:
    """What the server brings, as a site got it."""
    synthetic, text, scale = arrays_of(content["server"])
    return Server(synthetic, text, float(scale[0]), tuple(json.loads(content["told"]["classes"])))


def ask_record(leaves: Sequence[np.ndarray], **numbers: int) -> RecordDict:
    """What a site gets to train on."""
    return RecordDict({"params": ArrayRecord(list(leaves)), "round": ConfigRecord(numbers)})


def answer_record(leaves: Sequence[np.ndarray], loss: float) -> RecordDict:
    """What a site sends after it has trained."""
    return RecordDict({"update": ArrayRecord(list(leaves)), "told": MetricRecord({"loss": loss})})


def refusal_record(error: UsageError, name: str = "a site") -> RecordDict:
    """Why a site does not do what it was asked for, or why the server does not take it."""
    return RecordDict({REFUSED: ConfigRecord(error.fields | {"name": name})})


def refusal_in(content: RecordDict) -> tuple[str, UsageError] | None:
    """(the site, why it does not go with the server), where a record says so."""
    if REFUSED not in content:
        return None
    told = {name: str(value) for name, value in content[REFUSED].items()}
    return told.pop("name"), UsageError(**told)


def ended_record(rounds: int | None) -> RecordDict:
    """That the pilot has ended, after so many rounds or, None, without a result."""
    return RecordDict({"ended": ConfigRecord({"rounds": -1 if rounds is None else rounds})})


def arrays_of(record: ArrayRecord) -> list[np.ndarray]:
    """A record's arrays, in the order in which they were put there."""
    return record.to_numpy_ndarrays()


def payload(record: ArrayRecord) -> int:
    """Bytes of a record's arrays as they travel, each with the header that tells its shape."""
    return sum(len(array.data) for array in record.values())
