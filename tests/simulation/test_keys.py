"""The rule that the config names chooses which of the server's images a run's keys are made of."""

import pathlib

import numpy as np
import pytest

from cachefl_jax.config import resolve
from cachefl_jax.config.synthesis import SELECTIONS
from cachefl_jax.data.feature_store import digest_of
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.simulation import encoded
from cachefl_jax.simulation.build import server_rows
from cachefl_jax.simulation.keys import member_rows
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_points import inputs_of
from cachefl_jax.synthesis.selection import Rule, Set, select
from experiments.configs import feature_bank

COUNTS = {"red square": 20, "green disc": 20, "blue bar": 20}
DRAWN, REAL, KEYS = 6, 1, 3


@pytest.fixture(scope="module")
def folders(make_pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    return make_pictures(root / "own", COUNTS), make_pictures(root / "drawn", dict.fromkeys(COUNTS, DRAWN), seed=3)


@pytest.fixture
def config_of(folders, config_for_images):
    """(**changes) -> a config whose keys are chosen of drawn images and of real ones."""

    def make(**changes):
        fields = {"synthesis.source": "image_folder", "synthesis.path": str(folders[1])}
        fields |= {"synthesis.images_per_class": DRAWN, "synthesis.real_images": REAL, "cache.keys_per_class": KEYS}
        return config_for_images(folders[0], **(fields | changes))

    return make


@pytest.mark.parametrize("rule", SELECTIONS)
def test_keys_are_those_that_the_rule_selects_and_the_others_are_left_to_the_server(config_of, rule):
    config = config_of(**{"synthesis.selection": rule, "synthesis.mixture": 0.7, "seed": 1})
    inputs = prepare(config)
    bank, images = inputs.bank, inputs.synthetic
    assert len(images.labels) == len(bank.synthetic.labels) == 3 * (DRAWN + REAL)
    assert np.bincount(images.labels[images.real]).tolist() == [REAL] * 3
    candidates = Set(bank.synthetic.features, images.labels, bank.text_features, images.real)
    keys, members = select(Rule(rule, 0.7, 1), candidates, KEYS)
    np.testing.assert_array_equal(inputs.server.synthetic, keys)
    rows = member_rows(inputs.members)
    assert rows.tolist() == sorted(int(row) for of_class in members for group in of_class for row in group)
    assert set(np.flatnonzero(images.real)) <= set(rows)
    assert len(rows) == (3 * (DRAWN + REAL) if rule == "means" else 3 * KEYS)
    learnt = server_rows(config, cachefl, inputs).features
    among = [(bank.synthetic.features[rows] == row).all(axis=1).any() for row in np.asarray(learnt)]
    assert among == ([True] * len(rows) if rule == "means" else [False] * 3 * (DRAWN + REAL - KEYS))


def test_images_that_became_keys_are_pictured_first(config_of):
    inputs = prepare(config_of(**{"synthesis.selection": "farthest"}))
    shown = inputs.images()["synthetic"]
    assert shown.shape[:2] == (3, DRAWN + REAL)
    for label, groups in enumerate(inputs.members):
        keys = [int(rows[0]) for rows in groups]
        others = [row for row in np.flatnonzero(inputs.synthetic.labels == label) if row not in keys]
        assert keys != sorted([*keys, *others])[:KEYS] or label  # of the first class not the first three
        for place, row in enumerate([*keys, *others]):
            np.testing.assert_array_equal(shown[label, place], np.asarray(inputs.synthetic.images[row]))


def test_only_images_that_became_keys_count_as_leaks(config_of, folders, make_pictures, tmp_path):
    """Test images among those brought: as many are told as the rule takes, not as lie in the folder."""
    fields = {"synthesis.real_images": 0, "synthesis.path": str(folders[0]), "synthesis.images_per_class": 20}
    told = {}
    for rule in ("margin", "farthest"):
        inputs = prepare(config_of(**fields, **{"synthesis.selection": rule}))
        name = inputs.synthetic.images.name
        keys = {pathlib.Path(name(row)).resolve() for row in member_rows(inputs.members)}
        source = inputs.source
        expected = {
            what: sum(pathlib.Path(split.images.name(row)).resolve() in keys for row in range(len(split.labels)))
            for what, split in (("validation", source.validation), ("test", source.test))
        }
        notes = [note for note in inputs.told if "are keys of the cache too (synthesis.path)" in note]
        told[rule] = {note.split()[3]: int(note.split()[0]) for note in notes}
        assert told[rule] == {what: count for what, count in expected.items() if count}
    assert any(told.values())


def test_points_of_a_sweep_over_the_rules_share_features(config_of, monkeypatch):
    known, shared, asked = {}, Shared(), []
    computed = encoded.obtain
    monkeypatch.setattr(encoded, "obtain", lambda made_of, *more: asked.append(made_of) or computed(made_of, *more))
    inputs = [inputs_of(config_of(**{"synthesis.selection": rule}), known, shared) for rule in SELECTIONS]
    assert len(asked) == 4 * len(SELECTIONS)
    assert len({digest_of(made_of) for made_of in asked}) == 4
    assert all(each.bank.synthetic.features is inputs[0].bank.synthetic.features for each in inputs)
    assert len({each.server.synthetic.tobytes() for each in inputs}) > 4


def test_keys_of_a_bank_are_chosen_too_where_it_has_what_the_rule_needs(make_bank):
    config = feature_bank.get_config()
    config.data.path, config.synthesis.selection = str(make_bank()), "margin"
    inputs = prepare(resolve(config))
    bank = inputs.bank
    cosines = bank.synthetic.features @ bank.text_features.T
    for label, groups in enumerate(inputs.members):
        rows = np.flatnonzero(bank.synthetic.labels == label)
        least = rows[(cosines[rows, label] - np.delete(cosines[rows], label, axis=1).max(axis=1)).argmin()]
        assert sorted([*(int(group[0]) for group in groups), int(least)]) == rows.tolist()
    config.data.path = str(make_bank(text_features=None))
    with pytest.raises(UsageError, match=r"synthesis.selection: got margin; allowed: first \| farthest \| medoids"):
        prepare(resolve(config))
