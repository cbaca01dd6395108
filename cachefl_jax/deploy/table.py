"""Predictions as the CSV or JSON that `cachefl predict` writes."""

import csv
import io
import json
from collections.abc import Sequence

import numpy as np

from cachefl_jax.deploy.model import Model
from cachefl_jax.deploy.predict import Predictions


def shortest(value: np.float32) -> float:
    """A float32 in the fewest digits that read back as the same float32."""
    return float(str(value))


def lines(model: Model, names: Sequence[str], found: Predictions, labels: np.ndarray | None = None) -> list[dict]:
    """A dict for each row: its file, predicted class, probabilities, nearest keys and, where `labels` [n] are given,
    the class that it has."""
    classes, table = model.class_names, []
    per_class = 1 if model.keys is None else model.keys.shape[1]
    for row, (name, best) in enumerate(zip(names, found.predicted, strict=True)):
        line = {"file": name, "predicted": classes[best], "probability": shortest(found.probabilities[row, best])}
        if labels is not None:
            line["label"] = classes[labels[row]] if labels[row] >= 0 else None
        line["probabilities"] = dict(zip(classes, map(shortest, found.probabilities[row]), strict=True))
        places = zip(found.nearest[row].tolist(), found.similarity[row], strict=True)
        line["nearest"] = [
            {"class": classes[place // per_class], "key": place % per_class, "similarity": shortest(similarity)}
            for place, similarity in places
        ]
        table.append(line)
    return table


def as_json(table: list[dict]) -> bytes:
    return (json.dumps(table, indent=1, allow_nan=False) + "\n").encode()


def as_csv(table: list[dict]) -> bytes:
    """One line for each row under a heading; a class's probability is in the column p_CLASS."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, line in enumerate(table):
        flat = {name: value for name, value in line.items() if name not in ("probabilities", "nearest")}
        flat |= {f"p_{name}": value for name, value in line["probabilities"].items()}
        for rank, key in enumerate(line["nearest"], 1):
            flat |= {f"nearest_{rank}_{name}": value for name, value in key.items()}
        if not number:
            writer.writerow(flat)
        writer.writerow(flat.values())
    return text.getvalue().encode(errors="surrogateescape")
