"""The page in a real browser: it shows, its images are drawn, and nothing else is asked for."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name resolves: the page has to do without a network
)  # fmt: skip


@pytest.fixture
def browse(tmp_path):
    """Runs the browser on a file with a fresh profile; returns what it prints."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed")

    def run(path: pathlib.Path, *flags: str) -> str:
        command = [browser, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *flags, path.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True, cwd=tmp_path)
        return done.stdout.decode()

    return run


def share_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(pixels.astype(int) - colour).max(axis=-1) < 12).mean())


def test_browser_shows_the_table_and_the_headline(make_workdir, browse):
    dom = browse(write_report([make_workdir()]), "--dump-dom")
    assert "CacheFL classifies 94.1% of the test images correctly" in dom
    assert dom.count("<table") >= 4
    for accuracy in ("61.2%", "66.3%", "35.4%", "95.5%", "84.7%"):
        assert f"<td>{accuracy}" in dom


@pytest.mark.parametrize(("width", "height"), [(1200, 3300), (420, 5000)])
def test_browser_draws_every_image(make_workdir, browse, tmp_path, width, height):
    path = write_report([make_workdir()])
    browse(path, f"--window-size={width},{height}", f"--screenshot={tmp_path / 'page.png'}")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert pixels.shape[1] == width
    # The fixture's images have colours of their own: they show only where the browser decoded and drew them.
    assert share_of(pixels, (255, 0, 255)) > 0.002
    assert share_of(pixels, (0, 200, 40)) > 0.002
    assert 0.001 < share_of(pixels, (28, 33, 39)) < 0.2  # ink
    assert share_of(pixels, (255, 255, 255)) > 0.5
    # Nothing sticks out to the right: the outermost column is bare paper.
    assert share_of(pixels[:, -4:], (255, 255, 255)) == 1


def requests_of_page(log: pathlib.Path) -> list[str]:
    """The addresses that a page asked for, by the browser's own log; what the browser asks for itself is no page's."""
    events = json.loads(log.read_text())["events"]
    started = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return [request["url"] for request in started if request["initiator"] != "not an origin"]


def test_browser_asks_for_the_page_alone(make_workdir, browse, tmp_path):
    path = write_report([make_workdir()])
    browse(path, f"--log-net-log={tmp_path / 'page.json'}", "--dump-dom")
    assert requests_of_page(tmp_path / "page.json") == []
    # The same watch does see a page that reaches out.
    outward = tmp_path / "outward.html"
    outward.write_text('<!doctype html><img src="http://elsewhere.invalid/picture.png">')
    browse(outward, f"--log-net-log={tmp_path / 'outward.json'}", "--dump-dom")
    assert requests_of_page(tmp_path / "outward.json") == ["http://elsewhere.invalid/picture.png"]
