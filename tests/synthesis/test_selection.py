"""Which candidates become keys, against plain loops and exhaustive searches."""

import itertools

import numpy as np
import pytest

from cachefl_jax.config.synthesis import SELECTIONS
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis.rules import medoids
from cachefl_jax.synthesis.selection import Rule, Set, select

WIDTH = 6


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def candidates(per_class: int = 9, classes: int = 3, seed: int = 0, real: int = 0) -> Set:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, WIDTH))
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    features = unit(centres[labels] + rng.normal(size=(len(labels), WIDTH)))
    is_real = np.zeros(len(labels), bool)
    for label in range(classes):
        is_real[np.flatnonzero(labels == label)[1 : 1 + real]] = True
    return Set(features, labels, unit(centres + rng.normal(size=centres.shape)), is_real if real else None)


def rows_of(rule: Rule, given: Set, keys: int) -> list[list[int]]:
    """Of each class the rows that became keys, in ascending order; every key is one row's features."""
    selected = select(rule, given, keys)
    for label, groups in enumerate(selected.members):
        for key, rows in zip(selected.keys[label], groups, strict=True):
            np.testing.assert_array_equal(key, given.features[rows[0]])
            assert len(rows) == 1
    return [[int(rows[0]) for rows in groups] for groups in selected.members]


def of_class(given: Set, label: int) -> list[int]:
    return [row for row, own in enumerate(given.labels) if own == label]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def margin(given: Set, row: int) -> float:
    own = given.labels[row]
    cosines = [cosine(given.features[row], text) for text in given.text]
    return cosines[own] - max(value for label, value in enumerate(cosines) if label != own)


def plain_farthest(given: Set, start: list[int], rows: list[int], count: int) -> list[int]:
    taken = list(start)
    if not taken:
        taken = [max(rows, key=lambda row: sum(cosine(given.features[row], given.features[other]) for other in rows))]
    while len(taken) < count:
        left = [row for row in rows if row not in taken]
        taken.append(
            max(left, key=lambda row: min(np.linalg.norm(given.features[row] - given.features[own]) for own in taken))
        )
    return sorted(taken)


def plain_herding(given: Set, target: np.ndarray, rows: list[int], count: int) -> list[int]:
    taken = []
    while len(taken) < count:
        left = [row for row in rows if row not in taken]
        taken.append(max(left, key=lambda row: cosine(given.features[[*taken, row]].mean(axis=0), target)))
    return sorted(taken)


@pytest.mark.parametrize("seed", range(3))
def test_first_margin_farthest_herding_and_mixture_are_those_of_plain_loops(seed):
    given = candidates(seed=seed)
    for label in range(3):
        rows = of_class(given, label)
        best = sorted(rows, key=lambda row: -margin(given, row))
        expected = {
            Rule("first"): rows[:4],
            Rule("margin"): sorted(best[:4]),
            Rule("farthest"): plain_farthest(given, [], rows, 4),
            Rule("herding"): plain_herding(given, given.text[label], rows, 4),
            Rule("mixture", 0.5): plain_farthest(given, best[:2], rows, 4),
            Rule("mixture", 0.25): plain_farthest(given, best[:1], rows, 4),
            Rule("mixture", 0.0): plain_farthest(given, [], rows, 4),
            Rule("mixture", 1.0): sorted(best[:4]),
        }
        assert {rule: rows_of(rule, given, 4)[label] for rule in expected} == expected


def cost(given: Set, rows: list[int], medoids: tuple[int, ...]) -> float:
    return sum(min(1 - cosine(given.features[row], given.features[own]) for own in medoids) for row in rows)


@pytest.mark.parametrize("keys", [1, 2, 3])
def test_medoids_are_the_best_of_all_or_nearly_and_no_exchange_makes_them_better(keys):
    gaps = []
    for seed in range(4):
        given = candidates(seed=seed)
        for label, found in enumerate(rows_of(Rule("medoids"), given, keys)):
            rows = of_class(given, label)
            own = cost(given, rows, tuple(found))
            for out, into in itertools.product(found, rows):
                assert cost(given, rows, (*(row for row in found if row != out), into)) >= own - 1e-6
            gaps.append(own / min(cost(given, rows, each) for each in itertools.combinations(rows, keys)) - 1)
    assert np.mean(np.array(gaps) < 1e-6) > 0.7  # PAM ends where no single exchange helps; most often that is the best
    assert max(gaps) < 0.15


def test_medoids_exchange_what_they_took_first():
    """On an arc of three clumps the first medoid lies in the middle one; of two both lie at the ends."""
    angles = np.concatenate([np.linspace(0, 0.1, 5), [0.75], np.linspace(1.5, 1.6, 5)])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert medoids(features, 1).tolist() == [5]
    given = Set(features, np.zeros(11, int))
    best = min(itertools.combinations(range(11), 2), key=lambda each: cost(given, list(range(11)), each))
    assert 5 not in best
    assert sorted(medoids(features, 2).tolist()) == list(best)


@pytest.mark.parametrize("keys", [1, 2, 3])
def test_means_are_those_of_nearly_the_best_clusters(keys):
    given = candidates(per_class=7)
    selected = select(Rule("means"), given, keys)
    assert selected.keys.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(selected.keys, axis=-1), 1, atol=1e-6)
    for label, groups in enumerate(selected.members):
        rows = of_class(given, label)
        assert sorted(int(row) for group in groups for row in group) == rows
        features = given.features.astype(np.float64)

        def scatter(parts, features=features):
            return sum(((features[part] - features[part].mean(axis=0)) ** 2).sum() for part in parts)

        least = min(
            scatter([[row for row, own in zip(rows, each, strict=True) if own == key] for key in range(keys)])
            for each in itertools.product(range(keys), repeat=len(rows))
            if len(set(each)) == keys
        )
        # The best of ten starts, from which no row would go to another's mean: at most a little above the least.
        assert least * (1 - 1e-9) <= scatter([group.tolist() for group in groups]) <= least * 1.02
        means = np.stack([features[group].mean(axis=0) for group in groups])
        for own, group in enumerate(groups):
            away = np.linalg.norm(features[group][:, None] - means, axis=-1)
            assert (away.argmin(axis=1) == own).all()
        for key, group in zip(selected.keys[label], groups, strict=True):
            np.testing.assert_allclose(key, unit(features[group].mean(axis=0)), atol=1e-6)


def sorted_keys(keys: np.ndarray) -> list[list[list[float]]]:
    return [sorted(of_class.tolist()) for of_class in keys]


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name != "first"])
def test_keys_do_not_depend_on_the_order_of_the_rows_also_where_some_are_equal(name):
    given = candidates(real=2)
    given.features[of_class(given, 1)[4]] = given.features[of_class(given, 1)[5]]
    order = np.random.default_rng(1).permutation(len(given.labels))
    # Real images keep their places among themselves: more than there are keys are refused by the config.
    other = Set(given.features[order], given.labels[order], given.text, given.real[order])
    for keys in (2, 3, 5):
        one, another = (select(Rule(name), each, keys).keys for each in (given, other))
        assert sorted_keys(one) == sorted_keys(another)


@pytest.mark.parametrize("name", SELECTIONS)
def test_real_images_are_keys_under_every_rule(name):
    given = candidates(real=2)
    for keys in (2, 3, 6):
        for label, groups in enumerate(select(Rule(name), given, keys).members):
            real = [row for row in of_class(given, label) if given.real[row]]
            assert sorted(int(rows[0]) for rows in groups if given.real[rows[0]]) == real
            assert len(groups) == keys
            assert all(len(rows) == 1 for rows in groups if given.real[rows].any())


def test_shots_follow_the_mean_of_the_real_images_and_farthest_keeps_away_from_them():
    given = candidates(real=2)
    shots, far = (rows_of(Rule(name), given, 5) for name in ("shots", "farthest"))
    for label in range(3):
        rows = of_class(given, label)
        real = [row for row in rows if given.real[row]]
        others = [row for row in rows if row not in real]
        target = given.features[real].mean(axis=0)
        assert sorted([*real, *plain_herding(given, target, others, 3)]) == shots[label]
        assert plain_farthest(given, real, rows, 5) == far[label]


@pytest.mark.parametrize("name", SELECTIONS)
def test_all_candidates_are_keys_where_there_are_no_more(name):
    given = candidates(per_class=5, real=1)
    selected = select(Rule(name), given, 5)
    for label in range(3):
        assert [rows.tolist() for rows in selected.members[label]] == [[row] for row in of_class(given, label)]
        np.testing.assert_array_equal(selected.keys[label], given.features[given.labels == label])


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name != "shots"])
def test_equal_candidates_and_a_single_class_make_as_many_keys_as_others(name):
    features = np.repeat(unit(np.eye(WIDTH)[:2]), 4, axis=0)
    selected = select(Rule(name), Set(features, np.zeros(8, int), unit(np.ones((1, WIDTH)))), 3)
    assert selected.keys.shape == (1, 3, WIDTH)
    rows = [int(row) for group in selected.members[0] for row in group]
    assert len(rows) == len(set(rows)) == (8 if name == "means" else 3)
    if name != "first":
        assert len(np.unique(selected.keys[0], axis=0)) == (1 if name == "margin" else 2)


def test_what_cannot_be_selected_from_is_refused():
    given = candidates(per_class=3)
    with pytest.raises(UsageError, match=r"cache.keys_per_class: got 4; allowed: 1 to 3, what the synthetic set has"):
        select(Rule(), given, 4)
    with pytest.raises(UsageError, match="synthetic set: got no rows of class number 1; allowed: one or more"):
        select(Rule(), Set(given.features, given.labels * 2), 1)
    for name in ("margin", "herding", "mixture"):
        with pytest.raises(UsageError, match=rf"synthesis.selection: got {name}; allowed: first \| farthest"):
            select(Rule(name), given._replace(text=None), 2)
    for real in (None, np.isin(given.labels, [0, 1])):
        with pytest.raises(UsageError, match="synthesis.selection: got shots; allowed: another rule"):
            select(Rule("shots"), given._replace(real=real), 2)
    opposite = Set(np.array([[1, 0], [-1, 0], [1, 0]], np.float32)[:2], np.zeros(2, int))
    with pytest.raises(UsageError, match="one of class number 0 has no direction"):
        select(Rule("means"), opposite, 1)
