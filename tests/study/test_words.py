"""What a study says of its figures: the winner in the first sentence, whoever it is, and what is missing."""

import numpy as np
import pytest

from cachefl_jax.config import changed
from cachefl_jax.study import figures, tables, words
from cachefl_jax.study.plan import study_of
from cachefl_jax.study.results import Standing, Table, family
from cachefl_jax.study.statistics import Sample
from experiments.configs import digits

LABELS = {"zero_shot": "", "cachefl": "CacheFL", "linear_probe": "linear probe", "centralized": "centralized"}


@pytest.fixture
def study():
    config = changed(digits.get_config(), {"compare": ("cachefl", "linear_probe", "centralized", "zero_shot")})
    return study_of(config, [{}])


def standing(name: str, accuracies: list[float], total: int | None) -> Standing:
    regime = "centralized" if name == "centralized" else "federated"
    entry = {"total_bytes": total, "uplink_bytes_per_client_round": 10}
    runs = {seed: entry | {"test_accuracy": value} for seed, value in enumerate(accuracies)}
    return Standing(
        name, LABELS[name], regime, {"cache.alpha": 3.0}, 12, runs, 0, Sample(np.asarray(accuracies), None, "")
    )


def table_of(study, own: list[float]) -> Table:
    rows = [
        standing("cachefl", own, 2**20), standing("linear_probe", [0.90, 0.91, 0.90], 2**10),
        standing("centralized", [0.99, 0.98, 0.99], None),
    ]  # fmt: skip
    return Table(study.settings[0], rows, family([(rows[0], rows[1]), (rows[0], rows[2])]), [])


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ([0.95, 0.97, 0.95], "CacheFL is better than the best rival, linear probe: 95.7 ± 1.2%"),
        ([0.85, 0.87, 0.85], "CacheFL is worse than the best rival, linear probe: 85.7 ± 1.2%"),
        ([0.89, 0.92, 0.91], "CacheFL is no different within error from the best rival, linear probe: 90.7 ± 1.5%"),
    ],
)
def test_the_first_sentence_says_whether_the_method_wins_and_the_bytes_of_both(study, own, told):
    (sentence,) = words.headline(study, [table_of(study, own)])
    assert sentence.startswith(told)
    assert "1 MiB sent in all against 1 KiB" in sentence


def test_of_several_settings_the_first_sentence_counts(study):
    found = [table_of(study, [0.95, 0.97, 0.95]), table_of(study, [0.85, 0.87, 0.85])]
    first, *others = words.headline(study, found)
    assert first == "Against the best rival of each of 2 settings CacheFL is better in 1 and worse in 1."
    assert len(others) == 2


def test_rows_without_figures_are_told_once_and_where(study):
    found, told = table_of(study, [0.9, 0.8, 0.9]), "The method refuses the data or settings, and the row is left out"
    assert words.method(study, [found, found])[-1] == f"{told}: zero_shot."
    mute = standing("zero_shot", [0.5], 0)._replace(label="zero-shot CLIP", regime="zero_shot", sample=None)
    other = found._replace(rows=[*found.rows, mute], setting=found.setting._replace(name="rounds=3"))
    assert words.method(study, [found._replace(setting=found.setting._replace(name="rounds=2")), other])[-2:] == [
        f"{told}: zero_shot (with rounds=2).",
        "The data have no texts to classify by: zero-shot CLIP (with rounds=3).",
    ]


def test_one_seed_and_one_point_are_called_so(study):
    alone = study_of(changed(study.config, {"study.seeds": 1, "study.budget": 1}), [{}])
    told = " ".join(words.method(alone, [table_of(alone, [0.9])]))
    assert "No row was tuned: each ran as the config has it, by seed 0." in told
    assert "Behind ± of a difference" in told
    assert "standard deviation" not in told
    assert "t-test" not in told


def test_latex_is_text_and_the_best_rival_is_bold_whoever_it_is(study):
    text = tables.as_latex(study, [table_of(study, [0.85, 0.87, 0.85])])
    assert "linear probe & \\textbf{90.3 $\\pm$ 0.6}" in text
    assert text.count("textbf") == 1
    assert " & $-$4.7 $\\pm$ " in text, "a minus and no hyphen"
    assert tables.latex("a_b & 5% <x>") == "a\\_b \\& 5\\% $<$x$>$"


def test_the_configs_own_overrides_stay_before_the_chosen_ones(study):
    config = changed(study.config, {"overrides": ("cachefl: server.learning_rate=0.5",)})
    found = tables.overrides_words(study_of(config, [{}]), table_of(study, [0.9, 0.9, 0.8]))
    chosen = [f"{name}: cache.alpha=3.0" for name in ("cachefl", "linear_probe", "centralized")]
    assert found == ["cachefl: server.learning_rate=0.5", *chosen]


def test_no_whisker_leaves_the_accuracies_that_there_are():
    below, above = figures.whiskers(standing("cachefl", [0.5, 0.98], 1))
    assert figures.interval(standing("cachefl", [0.5, 0.98], 1)) > 74
    assert (below, above) == ([74.0], [pytest.approx(26.0)])


def test_the_data_are_told_and_a_reference_only_where_there_is_one(study):
    found = table_of(study, [0.9, 0.8, 0.9])
    told = words.method(study, [found])
    assert told[0].startswith(
        "Data: digits; 20 clients by a dirichlet partition; 200 rounds of 1 local epoch in batches of"
    )
    assert any("is a reference" in sentence for sentence in told)
    assert not any(
        "is a reference" in sentence for sentence in words.method(study, [found._replace(rows=found.rows[:2])])
    )
