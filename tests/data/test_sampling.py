"""Few-shot rows and held-out shares: how many of which class, and that the same are drawn every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.data.bank import Split, take_shots
from cachefl_jax.data.holding_out import hold_out
from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of
from cachefl_jax.data.sampling import class_ranks, shot_rows, take_image_shots


def shares(validation_share: float, test_share: float, **fields) -> ConfigDict:
    data = default().data
    data.update({"validation_share": validation_share, "test_share": test_share} | fields)
    return data


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4, dtype=np.int32), [30, 20, 11, 2]))


def source_of(labels: np.ndarray = LABELS, **changes) -> ImageSet:
    rows = np.arange(len(labels), dtype=np.uint8)
    train = LabelledImages(np.tile(rows[:, None, None], (1, 2, 2)), labels, "train", groups=rows.astype(np.int32))
    return ImageSet(train, None, None, tuple("abcd"), ("{}",))._replace(**changes)


def numbers(split: LabelledImages) -> set[int]:
    return {int(image[0, 0]) for image in split.images}


@given(labels=st.lists(st.integers(0, 5), max_size=60), shots=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_shots_are_the_first_of_every_class_in_one_shuffling(labels, shots, seed):
    labels = np.array(labels, np.int32)
    order = np.random.default_rng((seed, 1)).permutation(len(labels))
    kept = [row for label in set(labels.tolist()) for row in order[labels[order] == label][:shots]]
    assert shot_rows(labels, shots, seed).tolist() == sorted(kept)


def test_images_and_features_of_equal_labels_give_the_same_rows():
    features = np.arange(len(LABELS), dtype=np.float32)[:, None]
    few, images = take_shots(Split(features, LABELS), 5, seed=3), take_image_shots(source_of(), 5, seed=3).train
    assert few.features[:, 0].tolist() == [image[0, 0] for image in images.images]
    assert few.labels.tolist() == images.labels.tolist()
    assert images.groups.tolist() == [image[0, 0] for image in images.images]


def test_classes_with_too_few_images_give_what_they_have_and_are_named():
    source = take_image_shots(source_of(), 16, seed=0)
    assert np.bincount(source.train.labels).tolist() == [16, 16, 11, 2]
    assert source.notes == (
        "data.shots=16: the train split is at most 16 images of each class, 45 of 63.",
        "Classes with fewer than 16 training images (2 of 4): c (11), d (2).",
    )
    told = ("data.shots=2: the train split is at most 2 images of each class, 8 of 63.",)
    assert take_image_shots(source_of(), 2, seed=0).notes == told
    whole = source_of()
    assert take_image_shots(whole, 0, seed=0) is whole


def test_another_choice_has_another_fingerprint():
    prints = {take_image_shots(source_of(), shots, seed).train.fingerprint for shots in (3, 4) for seed in (0, 1)}
    assert len(prints) == 4


def test_a_share_of_every_class_is_held_out_and_nothing_is_lost():
    source = hold_out(source_of(), shares(0.1, 0.2))
    counts = [np.bincount(split.labels, minlength=4).tolist() for split in source[:3]]
    assert counts == [[21, 14, 8, 1], [3, 2, 1, 0], [6, 4, 2, 1]]
    held = [numbers(split) for split in source[:3]]
    assert len(set.union(*held)) == len(LABELS)
    assert sum(map(len, held)) == len(LABELS)
    assert source.notes == (
        "No test split in the source: 0.2 of every class, 13 images, was held out for it.",
        "No validation split in the source: 0.1 of every class, 6 images, was held out for it.",
    )


def test_splits_that_there_are_stay_as_they_are():
    own = LabelledImages(np.zeros((3, 2, 2), np.uint8), np.arange(3, dtype=np.int32), "own")
    whole = source_of(validation=own, test=own)
    assert hold_out(whole, shares(0.1, 0.2)) == whole
    half = hold_out(source_of(test=own), shares(0.1, 0.2))
    assert half.test is own
    assert np.bincount(half.validation.labels).tolist() == [3, 2, 1, 1]
    assert hold_out(source_of(test=own), shares(0.0, 0.2)).validation is None


def test_a_class_of_one_image_is_for_training():
    source = hold_out(source_of(np.array([0, 1, 1, 2, 2, 2, 3], np.int32)), shares(0.5, 0.5))
    counts = [np.bincount(split.labels, minlength=4).tolist() for split in source[:3]]
    assert counts == [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 2, 0]]


def test_ranks_count_up_within_every_class():
    ranks = class_ranks(LABELS, (0, 9))
    for label, count in enumerate([30, 20, 11, 2]):
        assert sorted(ranks[np.equal(LABELS, label)]) == list(range(count))
    assert class_ranks(LABELS[:0], (0, 9)).shape == (0,)


@pytest.mark.parametrize("other", [np.array([1, 2], np.int64), np.array([[1, 2]], np.int32), "12", ""])
def test_fingerprints_tell_content_shape_and_kind_apart(other):
    assert fingerprint_of(other) != fingerprint_of(np.array([1, 2], np.int32))
    assert fingerprint_of("a", "bc") != fingerprint_of("ab", "c")


@pytest.mark.parametrize(("shots", "most"), [(1, 1), (2, 2), (16, 4)])
def test_validation_is_never_larger_than_training_under_few_shots(shots, most):
    """CoOp's rule: four of each class, and no more than there are shots."""
    validation = LabelledImages(np.zeros((len(LABELS), 2, 2), np.uint8), LABELS, "validation")
    source = take_image_shots(source_of(validation=validation), shots, seed=0)
    assert np.bincount(source.validation.labels).tolist() == [most, most, most, min(most, 2)]
    assert any(note.startswith(f"data.shots={shots}: the validation split is at most {most}") for note in source.notes)
    more = take_image_shots(source_of(validation=validation), shots, seed=0, more=3)
    assert np.bincount(more.train.labels).tolist() == [min(count, shots + 3) for count in (30, 20, 11, 2)]
    assert more.validation.fingerprint == source.validation.fingerprint


def test_a_share_that_holds_out_more_than_it_leaves_is_told():
    source = hold_out(source_of(), shares(0.6, 0.2))
    assert len(source.validation.labels) > len(source.train.labels)
    told = f"More was held out than is left to train on, {len(source.train.labels)} images: validation ("
    assert source.notes[-1].startswith(told)
    assert not any("More was held out" in note for note in hold_out(source_of(), shares(0.1, 0.2)).notes)
