"""The set's page: what lies in it, in which pages, and that no text of a set is markup or a script."""

import base64
import hashlib
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.data.images import LabelledImages
from cachefl_jax.report import synthetic_set
from cachefl_jax.report.synthetic_set import View, pages_of, write_page
from cachefl_jax.synthesis.origins import origins
from cachefl_jax.synthesis.scores import Table

ATTACK = '</script><script>window.taken = 1</script><img src=x onerror="window.taken = 1"> & "quoted"'
LABELS = np.array([0, 1, 0, 1, 2, 0], np.int32)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), np.uint8)
PIXELS[5] = PIXELS[0]


@pytest.fixture
def view() -> View:
    """Six images of three classes, two of them the same."""
    images = LabelledImages(PIXELS, LABELS, "of six", real=np.array([False, True, False, False, False, False]))
    found = [origin._replace(prompt=ATTACK, seed=2**60 + row) for row, origin in enumerate(origins(images))]
    table = Table(
        agreement=np.full(6, 0.3), margin=np.array([0.1, -0.05, 0.03, 0.2, np.nan, 0.1]), runner_up=(LABELS + 1) % 3,
        sharpness=np.full(6, 123.456), constant=np.zeros(6, bool), duplicates=np.array([7, 8, 9, 10, 11, 7]),
        nearest=np.full(6, 0.5),
    )  # fmt: skip
    members = [[np.array([0, 5]), np.array([5])], [np.array([1]), np.array([3])], [np.array([4]), np.array([4])]]
    return View("A set", "f" * 64, ["cat", ATTACK, "猫"], images, found, table, members)


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_each_image_has_its_scores_its_prompt_and_its_keys(view, tmp_path):
    (path,) = write_page(tmp_path / "set.html", view)
    data = data_of(path.read_text("utf-8"))
    assert (data["set"], data["classes"], data["total"]) == ("f" * 64, ["cat", ATTACK, "猫"], 5)
    assert [image["label"] for image in data["images"]] == [0, 0, 0, 1, 1, 2]
    by_row = dict(zip((0, 2, 5, 1, 3, 4), data["images"], strict=True))
    assert [by_row[row]["keys"] for row in range(6)] == [[0], [0], [], [1], [0, 1], [0, 1]]
    assert [by_row[row]["twin"] for row in range(6)] == [1, None, None, None, None, 1]
    assert [by_row[row]["margin"] for row in range(6)] == [0.1, -0.05, 0.03, 0.2, None, 0.1]
    assert [by_row[row]["real"] for row in range(6)] == [False, True, False, False, False, False]
    first = by_row[0]
    assert (first["prompt"], first["seed"], first["sharpness"]) == (ATTACK, str(2**60), 123.5)
    assert (first["runner_up"], first["pixels"], first["name"]) == (ATTACK, view.origins[0].pixels, "image 0")
    kind, encoded = first["image"].split(",")
    assert kind == "data:image/webp;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), PIXELS[0])


def test_a_set_that_was_not_scored_or_selected_is_shown_too(view, tmp_path):
    page = write_page(tmp_path / "set.html", view._replace(scores=None, members=None))[0].read_text("utf-8")
    data = data_of(page)
    assert not data["scored"]
    assert "margin" not in data["images"][0]
    assert data["images"][0]["keys"] == []
    assert 'value="margin"' not in page
    assert "those with a key" not in page


def test_a_file_is_named_by_the_end_of_its_path(view, tmp_path):
    found = [origin._replace(name=f"/home/ada/set/images/0/{row}.png") for row, origin in enumerate(view.origins)]
    page = write_page(tmp_path / "set.html", view._replace(origins=found))[0].read_text("utf-8")
    assert data_of(page)["images"][1]["name"] == "images/0/2.png"
    assert "ada" not in page


def test_what_earlier_reviews_left_out_is_told(view, tmp_path):
    """A review in place of an earlier one would bring its images back."""
    page = write_page(tmp_path / "set.html", view._replace(reviews=(f"Ada marked 3 {ATTACK}.",)))[0].read_text("utf-8")
    assert f"Ada marked 3 {html.escape(ATTACK)}.".replace("&quot;", "&#34;") in page
    assert "in their place, their images would come back" in page
    assert "come back" not in write_page(tmp_path / "set.html", view)[0].read_text("utf-8")


def test_only_the_pages_own_script_may_run(view, tmp_path):
    """The policy names one script by its digest; no text of the set closes an element or opens one."""
    page = write_page(tmp_path / "set.html", view)[0].read_text("utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert len(re.findall("<script", page)) == 2
    assert "<img" not in page
    assert "innerHTML" not in script
    assert not re.search(r"https?://", page)


def test_large_images_are_shown_small(view, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (6, 200, 400), np.uint8)
    images = LabelledImages(large, LABELS, "of six")
    path = write_page(tmp_path / "set.html", view._replace(images=images))[0]
    for image in data_of(path.read_text("utf-8"))["images"]:
        encoded = base64.b64decode(image["image"].split(",")[1])
        assert Image.open(io.BytesIO(encoded)).size == (128, 64)


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ((3, 3, 3), 9, [[0, 1, 2]]),
        ((3, 3, 3), 8, [[0, 1], [2]]),
        ((3, 3, 3), 3, [[0], [1], [2]]),
        ((2, 7, 1), 3, [[0], [1], [1], [1, 2]]),
    ],
)
def test_pages_hold_whole_classes_unless_one_has_more_images(counts, most, expected):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    pages = pages_of(labels, most)
    assert [np.unique(labels[rows]).tolist() for rows in pages] == expected
    assert max(map(len, pages)) <= most
    in_order = np.concatenate(pages)
    assert in_order.tolist() == np.argsort(labels, kind="stable").tolist()


def test_a_large_set_is_several_pages_that_link_to_each_other(view, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_set, "PER_PAGE", 3)
    paths = write_page(tmp_path / "set.html", view)
    assert [path.name for path in paths] == ["set.html", "set-2.html"]
    assert [[image["label"] for image in data_of(path.read_text("utf-8"))["images"]] for path in paths] == [
        [0, 0, 0],
        [1, 1, 2],
    ]
    for number, path in enumerate(paths):
        page = path.read_text("utf-8")
        links = re.findall(r'<a href="([^"]*)"( aria-current="page")?>(.*?)</a>', page)
        assert [link[0] for link in links] == ["set.html", "set-2.html"]
        assert [bool(link[1]) for link in links] == [number == 0, number == 1]
        assert [html.unescape(link[2]) for link in links] == ["cat", f"{ATTACK} – 猫"]
        assert data_of(page)["total"] == 5  # of the set, not of the page
    # A set that is smaller now leaves no page of the larger one.
    monkeypatch.setattr(synthetic_set, "PER_PAGE", 6)
    write_page(tmp_path / "set.html", view)
    assert [path.name for path in tmp_path.iterdir()] == ["set.html"]
