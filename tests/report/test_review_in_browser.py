"""A person's work on the set's page, done by a script in a real browser: what is marked there is gone from the next
run's keys."""

import json
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from cachefl_jax.errors import listing
from cachefl_jax.report.synthetic_set import View, write_page
from cachefl_jax.simulation.keys import member_rows
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.synthesis.origins import origins
from cachefl_jax.synthesis.review import read_review
from cachefl_jax.synthesis.scores import scores
from cachefl_jax.synthesis.selection import Set

pytestmark = pytest.mark.quick
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NAMES = ("blue bar", "green disc", "red square")
ATTACK = '<img src=x onerror="window.taken = 1"><script>window.taken = 1</script>'
WRONG = 10  # images of each class's folder that show another class


@pytest.fixture(scope="module")
def browser():
    """Chromium without a network."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None:
        pytest.skip(f"no browser here: none of {listing(BROWSERS, 4)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra test brings playwright")
    with sync_api.sync_playwright() as started:
        flags = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        launched = started.chromium.launch(executable_path=binary, args=flags)
        yield launched
        launched.close()


class Made(NamedTuple):
    """A config, what it prepares, and which of its images are wrong."""

    config: object
    inputs: object
    pixels: list[str]
    wrong: set[str]


@pytest.fixture(scope="module")
def made(make_pictures, config_for_images, tmp_path_factory) -> Made:
    """Folders of 15 images, of which 10 show the next class."""
    root = tmp_path_factory.mktemp("looked")
    make_pictures(root / "real", dict.fromkeys(NAMES, 8))
    make_pictures(root / "brought", dict.fromkeys(NAMES, 5), seed=1)
    make_pictures(root / "others", dict.fromkeys(NAMES, WRONG), seed=2)
    for number, name in enumerate(NAMES):
        for file in (root / "others" / NAMES[(number + 1) % 3]).iterdir():
            file.rename(root / "brought" / name / f"0 wrong {file.name}")
    fields = {"synthesis.source": "image_folder", "synthesis.path": str(root / "brought")}
    config = config_for_images(root / "real", **fields, **{"synthesis.images_per_class": 15, "clip.key_views": 0})
    config.cache.keys_per_class = 5
    inputs = prepare(config)
    found = origins(inputs.synthetic)
    wrong = {origin.pixels for origin in found if "0 wrong" in origin.name}
    assert len(wrong) == 3 * WRONG
    return Made(config, inputs, [origin.pixels for origin in found], wrong)


@pytest.fixture(scope="module")
def page_file(made, tmp_path_factory):
    """The page of that set, whose prompts try to be markup."""
    inputs = made.inputs
    candidates = Set(inputs.bank.synthetic.features, inputs.bank.synthetic.labels, inputs.bank.text_features)
    found = [origin._replace(prompt=ATTACK, seed=3) for origin in origins(inputs.synthetic)]
    view = View("Shapes", inputs.synthetic.fingerprint, inputs.bank.class_names, inputs.synthetic, found,
                scores(inputs.synthetic, candidates), inputs.members)  # fmt: skip
    return write_page(tmp_path_factory.mktemp("page") / "set.html", view)[0]


def mark(page, wrong: set[str]) -> None:
    """Marks what is wrong: of the first class by j and x, of the second by the mouse, of the third by arrow and space.
    The keys go through the class image by image."""
    shown = page.evaluate("data.images.map((image) => [image.label, image.pixels])")
    for label, (advance, press) in {0: ("j", "x"), 2: ("ArrowRight", " ")}.items():
        page.keyboard.press("n")
        if label == 2:
            page.keyboard.press("n")
        for number, pixels in enumerate(pixels for other, pixels in shown if other == label):
            if number:
                page.keyboard.press(advance)
            assert page.evaluate("current.image.pixels") == pixels
            if pixels in wrong:
                page.keyboard.press(press)
        if label == 0:
            page.keyboard.press("n")
            cards = page.locator("details.group").nth(1).locator(".card")
            for number, pixels in enumerate(pixels for other, pixels in shown if other == 1):
                if pixels in wrong:
                    cards.nth(number).click()
            page.keyboard.press("p")


def test_what_is_marked_on_the_page_is_gone_from_the_next_runs_keys(made, page_file, browser, tmp_path):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page, asked, faults = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(page_file.as_uri())
    mark(page, made.wrong)
    assert "30 wrong, not saved" in page.inner_text("#told")

    # A reason for the one that is chosen; a closed tab loses nothing.
    last = page.evaluate("current.image.pixels")
    if last not in made.wrong:
        page.keyboard.press("x")
    page.keyboard.press("w")
    page.keyboard.type('a "bar" <b>')
    page.keyboard.press("Enter")
    if last not in made.wrong:
        page.keyboard.press("x")
    page.close()
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert "30 wrong" in page.inner_text("#told")

    page.click("#save")
    assert "Write your name first" in page.inner_text("#message")
    page.fill("#reviewer", "Ada <script>")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "review.json"
    path = tmp_path / "review.json"
    download.value.save_as(path)

    # Texts of the set are shown as texts, and nothing but the file itself was asked for.
    assert page.evaluate("window.taken") is None
    assert ATTACK in page.locator(".prompt").first.inner_text()
    assert {address.split(":")[0] for address in asked} <= {"file", "data"}
    assert [address for address in asked if address.startswith("file")] == [page_file.as_uri()]
    assert faults == []
    context.close()

    review = read_review(str(path))
    assert set(review.wrong) == made.wrong
    assert (review.reviewer, review.of_set) == ("Ada <script>", made.inputs.synthetic.fingerprint)
    config = made.config.copy_and_resolve_references()
    config.synthesis.review = (str(path),)
    after = prepare(config)
    keys = {origin.pixels for origin in origins(after.synthetic)}
    assert keys == set(made.pixels) - made.wrong
    assert len(member_rows(after.members)) == 3 * 5  # all that are left
    assert any(note.startswith("synthesis.review: Ada <script> saw ") and "marked 30 wrong" in note
               for note in after.notes)  # fmt: skip
    before = made.inputs.server.synthetic
    assert not np.array_equal(before, after.server.synthetic)
    # Without the pictures of other classes the keys tell the classes apart better.
    assert centre_accuracy(after) > centre_accuracy(made.inputs)


def centre_accuracy(inputs) -> float:
    """The share of test images whose class has the nearest mean key."""
    centres = inputs.server.synthetic.mean(axis=1)
    return float(((inputs.bank.test.features @ centres.T).argmax(axis=1) == inputs.bank.test.labels).mean())


def test_filter_order_and_a_loaded_review(made, page_file, browser, tmp_path):
    """In a browser that knows nothing yet."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.inner_text("#told").endswith("seen, 0 wrong")
    pixels = sorted(made.pixels)[:3]
    marks = {digest: {"class": "red square", "why": "no shape"} for digest in pixels}
    for content, told in (
        ("{", "This file is no review.json."),
        (json.dumps({"set": "another", "reviewer": "Bob", "seen": ["0" * 64], "wrong": {}}), "of another set"),
        (json.dumps({"set": "another", "reviewer": "Bob", "seen": [], "wrong": marks}), "3 marks loaded"),
    ):
        (tmp_path / "earlier.json").write_text(content)
        page.set_input_files("#load", tmp_path / "earlier.json")
        page.locator("#message", has_text=told).wait_for()
    assert page.input_value("#reviewer") == "Bob"
    page.select_option("#filter", "marked")
    page.click("#unfold")
    shown = "[...document.querySelectorAll('.card')].map((card) => card.image.pixels)"
    assert sorted(page.evaluate(shown)) == pixels
    assert "wrong: no shape" in page.locator(".card").first.inner_text()
    page.select_option("#filter", "low")
    page.select_option("#order", "margin")
    margins = dict(page.evaluate("data.images.map((image) => [image.pixels, image.margin])"))
    lowest = [margins[digest] for digest in page.evaluate(shown)]
    assert lowest == sorted(margins.values())[: len(lowest)]
    assert len(lowest) == 3  # of 45
    # A second in view, and they count as seen.
    page.locator(".card").first.scroll_into_view_if_needed()
    page.locator(".card.seen").nth(1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # Another person begins with nothing seen or marked.
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#anew")
    assert page.inner_text("#told") == "0 of 45 seen, 0 wrong"
    assert page.input_value("#reviewer") == ""
    context.close()
