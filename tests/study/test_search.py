"""What a row tries: half of its budget all over its space, then beside the best so far."""

from cachefl_jax.config import changed, rows_of
from cachefl_jax.config.rows import row_of
from cachefl_jax.errors import UsageError
from cachefl_jax.study.search import Search
from experiments.configs import digits


def search_of(word: str, budget: int) -> Search:
    config = changed(digits.get_config(), {"compare": (word, "cachefl"), "overrides": (), "study.budget": budget})
    return Search(config, next(row for row in rows_of(config) if row[1:] == row_of(config.method, word)[1:]))


def found_by(search: Search, score, refuses=lambda values: False) -> tuple[list[dict], dict]:
    """(all that was tried, in order; scores by number)."""
    scores, tried = {}, []
    while asked := search.ask(scores):
        for candidate in asked:
            if refuses(candidate.values):
                search.refuse(candidate, UsageError("field", 1, "2", "mend"))
            else:
                scores[candidate.number] = score(candidate.values)
                tried.append(candidate.values)
    return tried, scores


def far(values: dict) -> float:
    """The best are SGD at 0.03, alpha 3 and beta 1."""
    ladders = {"local.learning_rate": (0.003, 0.01, 0.03, 0.1), "cache.alpha": (1.0, 3.0, 10.0, 30.0, 50.0)}
    steps = sum(
        abs(ladder.index(values[name]) - ladder.index(best)) if values[name] in ladder else 4
        for (name, ladder), best in zip(ladders.items(), (0.03, 3.0), strict=True)
    )
    return -steps - (values["cache.beta"] != 1.0) - 3 * (values["local.optimizer"] != "sgd")


def test_the_first_half_covers_the_space_and_does_not_look_at_scores():
    one, two = search_of("cachefl", 24), search_of("cachefl", 24)
    tried, _ = found_by(one, far)
    others, _ = found_by(two, lambda values: -far(values))
    expected = [candidate.values for candidate in candidates_of("cachefl")][:12]
    assert tried[:12] == others[:12] == expected
    assert tried[12:] != others[12:]
    assert len(tried) == len(others) == 24
    assert all(values not in tried[:at] for at, values in enumerate(tried))


def candidates_of(word: str) -> list:
    search = search_of(word, 12)
    return list(search.order)


def test_the_second_half_climbs_from_the_best_to_a_better_one():
    tried, scores = found_by(search_of("cachefl", 24), far)
    start = max(tried[:12], key=far)
    assert max(scores.values()) > far(start)
    assert max(scores.values()) == 0
    steps = [sum(values[name] != start[name] for name in start) for values in tried[12:]]
    assert steps[0] == 1
    assert all(values["local.optimizer"] == start["local.optimizer"] for values in tried[12:16])


def test_a_refused_point_is_replaced_and_no_budget_is_lost():
    search = search_of("cachefl", 24)
    tried, scores = found_by(search, far, refuses=lambda values: values["cache.beta"] == 5.0)
    assert len(tried) == 24
    assert all(values["cache.beta"] != 5.0 for values in tried)
    assert search.refused
    assert len(set(scores)) == 24


def test_a_small_space_is_tried_whole_and_a_budget_of_one_is_the_config():
    tried, _ = found_by(search_of("ridge", 100), lambda values: 0.0)
    assert len(tried) == 18
    config = digits.get_config()
    tried, _ = found_by(search_of("cachefl", 1), far)
    assert [values["local.learning_rate"] for values in tried] == [config.local.learning_rate]
    assert found_by(search_of("zero_shot", 24), lambda values: 0.0)[0] == [{}]
