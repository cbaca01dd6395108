"""What the partitioners of flwr-datasets deal out, in figures that ours are held to (test_partition_against_flwr.py).

    pip install flwr-datasets==0.6.1
    python tests/data/flwr_reference.py > tests/data/flwr_reference.json

1,000 rows of 10 classes, 100 each, in an order drawn from the seed, at 20 clients; 200 seeds. Where its partitioners
and ours are not alike:

* DirichletPartitioner starts anew while a partition has fewer than min_partition_size rows (10 unless told), at most
  ten times, which favours even draws; and with self_balancing (on unless told) gives nothing more to a partition that
  has its average already. Here both are off, and ours repairs nothing; "as delivered" records what they do, and after
  how many seeds it did not give up.
* It also cuts a class at the next whole row below, where ours rounds: running totals just short of 1 leave its last
  partition a row of almost every class, however small its share. The statistics therefore leave the last one out.
* InnerDirichletPartitioner takes a concentration for each class where ours takes their sum, and deals single rows in
  turn where ours lets all wish at once; once classes run out the order matters, by a few per cent.
* PathologicalPartitioner draws each partition's classes on their own ("random"), which leaves some classes to few or
  to none, or lines them up ("deterministic"); ours deals from a shuffled deck. Recorded: deterministic.
* LinearPartitioner has sizes in proportion to 1, 2, ..., cut at whole rows, the rest to the last; Square- and
  ExponentialPartitioner likewise. Their laws are not ours (log-normal, Zipf, Dirichlet), but how a law becomes whole
  sizes is comparable.
* DistributionPartitioner deals given counts to given classes: no scheme of ours.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable

import numpy as np

ROWS, CLASSES, CLIENTS, SEEDS = 1000, 10, 20, 200
STATISTICS = ("effective_classes", "distance", "size_spread", "largest")


def labels_of(seed: int) -> np.ndarray:
    """[n] labels, shuffled."""
    return np.random.default_rng((7, seed)).permutation(np.arange(ROWS) % CLASSES)


def statistics(owners: np.ndarray, labels: np.ndarray) -> list[float]:
    """Over all clients but the last: means, of those that hold rows, of effective classes and of the total variation
    between their labels and all; standard deviation of sizes over their mean; the largest size over the mean."""
    counts = np.zeros((CLIENTS, CLASSES))
    for owner, label in zip(owners, labels, strict=True):
        counts[owner, label] += 1
    overall, counts = counts.sum(axis=0) / counts.sum(), counts[:-1]
    sizes = counts.sum(axis=1)
    shares = counts[sizes > 0] / sizes[sizes > 0, None]
    entropies = [-sum(share * np.log(share) for share in row if share > 0) for row in shares]
    distance = np.abs(shares - overall).sum(axis=1) / 2
    mean = sizes.mean()
    return [
        float(np.exp(entropies).mean()),
        float(distance.mean()),
        float(sizes.std() / mean),
        float(sizes.max() / mean),
    ]


def owners_by(partitioner, labels: np.ndarray) -> np.ndarray:
    """[n] the partition that flwr-datasets gives each row to."""
    import datasets

    rows = {"label": labels.tolist(), "row": list(range(len(labels)))}
    partitioner.dataset = datasets.Dataset.from_dict(rows)
    owners = np.full(len(labels), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(CLIENTS):
            owners[partitioner.load_partition(number)["row"]] = number
    assert (owners >= 0).all()
    return owners


def partitioners() -> dict[str, Callable[[int], object]]:
    """By the name of our setting: a partitioner of theirs from a seed."""
    from flwr_datasets import partitioner as theirs

    def dirichlet(alpha: float, **changes) -> Callable[[int], object]:
        told = {"min_partition_size": 0, "self_balancing": False} | changes
        return lambda seed: theirs.DirichletPartitioner(CLIENTS, "label", alpha, seed=seed, **told)

    def inner(concentration: float) -> Callable[[int], object]:
        sizes = [ROWS // CLIENTS] * CLIENTS
        return lambda seed: theirs.InnerDirichletPartitioner(sizes, "label", concentration / CLASSES, seed=seed)

    return {
        "iid": lambda seed: theirs.IidPartitioner(CLIENTS),
        **{f"dirichlet classes {alpha}": dirichlet(alpha) for alpha in (0.1, 0.5, 5.0)},
        **{f"dirichlet clients {alpha}": inner(alpha) for alpha in (1.0, 5.0, 50.0)},
        "pathological 2": lambda seed: theirs.PathologicalPartitioner(
            CLIENTS, "label", 2, class_assignment_mode="deterministic", seed=seed
        ),
        "shards 2": lambda seed: theirs.ShardPartitioner(CLIENTS, "label", num_shards_per_partition=2, seed=seed),
        "dirichlet classes 0.5 as delivered": dirichlet(0.5, min_partition_size=10, self_balancing=True),
    }


def linear_sizes() -> list[int]:
    from flwr_datasets.partitioner import LinearPartitioner

    return np.bincount(owners_by(LinearPartitioner(CLIENTS), labels_of(0)), minlength=CLIENTS).tolist()


def main() -> None:
    record = {"version": "0.6.1", "statistics": STATISTICS, "settings": {}, "linear_sizes": linear_sizes()}
    for name, make in partitioners().items():
        rows = []
        for seed in range(SEEDS):
            # It gives up on a seed by a ValueError after ten attempts.
            with contextlib.suppress(ValueError):
                rows.append(statistics(owners_by(make(seed), labels_of(seed)), labels_of(seed)))
        print(name, len(rows), np.mean(rows, axis=0), file=sys.stderr, flush=True)
        mean, deviation = np.mean(rows, axis=0).tolist(), np.std(rows, axis=0, ddof=1).tolist()
        told = {"seeds": len(rows), "mean": mean, "deviation": deviation, "first": rows[0]}
        record["settings"][name] = told
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
