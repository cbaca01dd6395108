"""Who holds what, on the page: the figures, the card's, and pictures of few and of very many clients."""

import json

import numpy as np
import pytest

from cachefl_jax.config import default
from cachefl_jax.data.card import Cells, cells_of, held_cells, partition_card
from cachefl_jax.data.partition import Partition, make_partition
from cachefl_jax.errors import UsageError
from cachefl_jax.report import holdings, write_report


def cells_in(counts: np.ndarray) -> Cells:
    return cells_of({"class_counts": counts}, *counts.shape)


def with_card(workdir, **changes) -> dict:
    """Adds the card of the fixture's partition to a workdir."""
    arrays = dict(np.load(workdir / "partition.npz"))
    partition = Partition(arrays["offsets"], arrays["indices"], repairs=2)
    owners = np.repeat(np.arange(partition.clients), partition.sizes)
    labels = np.concatenate([np.repeat(np.arange(3), row) for row in arrays["class_counts"]])
    assert len(owners) == len(labels)
    card = partition_card(partition, labels, ["zero", "one", "two"], default().partition, seed=7) | changes
    (workdir / "partition.json").write_text(json.dumps(card))
    return card


def test_facts_of_the_counts():
    facts = dict(holdings.partition_facts(cells_in(np.array([[4, 4, 0, 0], [0, 0, 8, 0], [0, 0, 0, 0]]))))
    assert facts["samples a client: least / median / most"] == "0 / 8 / 8"
    assert facts["clients without samples"] == "1"
    assert facts["effective classes a client: least / median / most"] == "1.0 / 1.5 / 2.0"
    # All labels: 1/4, 1/4, 1/2, 0. Both clients would have to change half of theirs.
    assert facts["distance to all labels: mean over clients / over samples"] == "0.50 / 0.50"
    assert "scheme" not in facts


def test_the_card_is_on_the_page(make_workdir):
    workdir = make_workdir()
    before = write_report([workdir]).read_text()
    card = with_card(workdir, change="blur", change_strength=0.25)
    text = write_report([workdir]).read_text()
    told = (
        "dirichlet (over classes, concentration 0.1); seed 7",
        "<dd>2</dd>",
        "blur, up to 0.25 of 1",
        card["hash"][:16],
    )
    for part in told:
        assert part in text
    assert "samples moved so that each client has 1" in text
    assert "samples moved" not in before


def test_clients_are_called_by_their_names(make_workdir):
    workdir = make_workdir()
    clients = len(np.load(workdir / "partition.npz")["offsets"]) - 1
    names = ["Berlin", "a hospital with a very long name", *(f"Paris {number}" for number in range(clients - 2))]
    assert "Berlin" not in write_report([workdir]).read_text()
    with_card(workdir, client_names=names)
    text = write_report([workdir]).read_text()
    assert ">Berlin</text>" in text
    assert f">{names[1][:19]}\u2026</text>" in text
    with_card(workdir, client_names=names[1:])
    with pytest.raises(UsageError, match=f"client_names of others; allowed: {clients} names"):
        write_report([workdir])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hash": "0" * 64}, r"partition\.json: got hash 000.*that of partition\.npz beside it"),
        ({"settings": None}, r"partition\.json: got settings = None"),
        ({"repairs": "two"}, r"partition\.json: got repairs = 'two'"),
    ],
)
def test_a_card_of_another_partition_is_refused(make_workdir, changes, match):
    workdir = make_workdir()
    with_card(workdir, **changes)
    with pytest.raises(UsageError, match=match):
        write_report([workdir])


def test_a_card_without_all_fields_is_refused(make_workdir):
    workdir = make_workdir()
    card = with_card(workdir)
    del card["seed"]
    (workdir / "partition.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=r"partition\.json: got seed = nothing; allowed: a whole number"):
        write_report([workdir])


def test_no_cell_is_lost_in_a_large_picture():
    counts = np.zeros((700, 1003), int)
    counts[699, 1002] = counts[0, 0] = counts[350, 500] = 3
    small = holdings.pooled(cells_in(counts))
    assert small.shape == holdings.MOST_DOTS
    assert (small == 3).sum() == 3
    assert holdings.is_pooled(cells_in(counts))
    np.testing.assert_array_equal(holdings.pooled(cells_in(counts[:20, :30])), counts[:20, :30])
    assert not holdings.is_pooled(cells_in(counts[:20, :30]))


def test_a_dot_is_the_fullest_of_its_cells():
    counts = np.random.default_rng(0).poisson(2, (4200, 700))
    np.testing.assert_array_equal(holdings.pooled(cells_in(counts)), counts.reshape(210, 20, 350, 2).max(axis=(1, 3)))


@pytest.mark.parametrize("clients", [1, 20, 100, 200_000])
def test_the_page_stays_small_for_any_number_of_clients(make_workdir, clients):
    workdir = make_workdir(feature_bank=True)
    labels = np.arange(max(60, clients)) % 3
    config = default().partition
    config.update({"name": "shards", "clients": clients})
    partition = make_partition(labels, config, 0)
    held = held_cells(partition, labels, 3)
    np.savez(
        workdir / "partition.npz", offsets=partition.offsets, cells=held.client * 3 + held.label, cell_counts=held.count
    )
    path = write_report([workdir])
    assert path.stat().st_size < 200_000
    assert f"<dd>{clients:,}</dd>" in path.read_text()
