"""Reviews: reading them, whose images they mark, and how far two agree."""

import json

import numpy as np
import pytest

from cachefl_jax.commands.synthesize import agree
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis.review import Mark, Review, agreement, marked, read_review

DIGESTS = [f"{number:064x}" for number in range(40)]
SOUND = {
    "set": "of forty",
    "reviewer": "Ada",
    "date": "2026-01-02",
    "seen": DIGESTS[:20],
    "wrong": {DIGESTS[3]: {"class": "cat", "why": "<b>two</b> heads"}},
}


@pytest.fixture
def write(tmp_path):
    """(fields or text) -> the path of a file of them."""

    def make(content) -> str:
        path = tmp_path / "review.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return make


def review(seen, wrong, path="a.json") -> Review:
    """Of the images of these numbers."""
    marks = {DIGESTS[number]: Mark("cat", "") for number in wrong}
    return Review(path, "of forty", "Ada", "", frozenset(DIGESTS[number] for number in seen), marks)


def test_a_review_is_read_as_it_was_written(write):
    path = write(SOUND | {"newer": 1})
    found = read_review(path)
    assert found == Review(
        path, "of forty", "Ada", "2026-01-02", frozenset(DIGESTS[:20]), {DIGESTS[3]: Mark("cat", "<b>two</b> heads")}
    )
    assert read_review(write(SOUND | {"reviewer": " "})).reviewer == "an unnamed reviewer"


def test_what_is_marked_was_seen(write):
    assert DIGESTS[3] in read_review(write(SOUND | {"seen": []})).seen


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "review.json (b'{'); allowed: the JSON of a review; mend: save it again"),
        ("[" * 5000, "allowed: the JSON of a review"),
        ("[]", "review.json ([]); allowed: a JSON object"),
        ({}, "(set = nothing); allowed: text"),
        (SOUND | {"seen": DIGESTS[0]}, "allowed: a list of 64 hex digits"),
        (SOUND | {"seen": [DIGESTS[0][1:]]}, "allowed: a list of 64 hex digits"),
        (SOUND | {"seen": [DIGESTS[0].replace("0", "g")]}, "allowed: a list of 64 hex digits"),
        (SOUND | {"wrong": [DIGESTS[0]]}, "allowed: an object"),
        (SOUND | {"wrong": {"abc": {"class": "", "why": ""}}}, "(wrong, digest = 'abc'); allowed: 64 hex digits"),
        (SOUND | {"wrong": {DIGESTS[0]: {"class": "cat"}}}, "(wrong.000000000000.why = nothing); allowed: text"),
        (SOUND | {"wrong": {DIGESTS[0]: True}}, "(wrong.000000000000 = True); allowed: a JSON object"),
    ],
)
def test_what_is_no_review_is_told_in_one_line(write, content, told):
    with pytest.raises(UsageError, match=r"^synthesis\.review: got .*review\.json") as caught:
        read_review(write(content))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"^agree: got .*none.json \(No such file or directory\); allowed: a review"):
        read_review(str(tmp_path / "none.json"), "agree")


def test_images_that_any_review_marks_are_marked():
    found = marked(DIGESTS, [review(range(40), (1, 5)), review((5, 6), (6,)), review((7,), ())])
    assert np.flatnonzero(found).tolist() == [1, 5, 6]


def test_a_review_of_another_set_is_refused():
    """Of a larger set, some of whose images are here, a review counts."""
    with pytest.raises(
        UsageError, match="got b.json .by Ada, who has seen none of these 10 images.; allowed: a review"
    ):
        marked(DIGESTS[:10], [review((0,), ()), review(range(10, 40), (11,), "b.json")])
    assert marked(DIGESTS[:10], [review(range(9, 40), (9, 11))]).tolist() == [False] * 9 + [True]


def test_agreement_is_cohens_kappa_over_what_both_saw():
    """Of 20 images that both saw, one marks 8 and the other 7, 5 of them the same: 15 answers are the same, and by
    chance 8/20 7/20 + 12/20 13/20 = 0.53 would be."""
    first, second = review(range(20), range(8)), review(range(40), (*range(3, 10), *range(30, 40)))
    found = agreement(first, second)
    assert (found.seen, found.kappa) == (20, pytest.approx((0.75 - 0.53) / (1 - 0.53)))
    assert found.both_wrong == tuple(DIGESTS[3:8])
    assert found.first_alone == tuple(DIGESTS[:3])
    assert found.second_alone == tuple(DIGESTS[8:10])


def test_kappa_of_reviewers_who_mark_nothing_is_not_told():
    assert agreement(review(range(5), ()), review(range(5), ())).kappa is None
    assert agreement(review(range(5), (1,)), review(range(5), (1,))).kappa == 1
    assert agreement(review(range(5), range(5)), review(range(5), ())).kappa == 0


def test_reviews_of_different_images_do_not_agree_or_differ():
    with pytest.raises(UsageError, match=r"^agree: got a.json and b.json .no image that both have seen."):
        agreement(review((1, 2), ()), review((3,), (3,), "b.json"))


def test_the_command_prints_how_far_two_reviews_agree(tmp_path, capsys):
    for name, wrong in (("ada", DIGESTS[:3]), ("bob", DIGESTS[1:4])):
        marks = {digest: {"class": "cat", "why": ""} for digest in wrong}
        (tmp_path / name).write_text(json.dumps(SOUND | {"reviewer": name, "wrong": marks}))
    agree(["agree", str(tmp_path / "ada"), str(tmp_path / "bob")])
    told = json.loads(capsys.readouterr().out)
    assert (told["reviewers"], told["seen"]) == (["ada", "bob"], 20)
    assert told["kappa"] == pytest.approx((0.9 - 0.745) / (1 - 0.745))  # by chance 3/20 3/20 + 17/20 17/20
    assert (told["first_alone"], told["second_alone"]) == ([DIGESTS[0]], [DIGESTS[3]])
    with pytest.raises(UsageError, match=r"^command line: got agree a.json; allowed: agree A.json B.json"):
        agree(["agree", "a.json"])
