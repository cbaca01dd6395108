"""poc.html: every figure of decision.json is on it, what was not computed is not, and it fits paper and phone."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.poc import page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SECTIONS = {
    "sites": "Which sites gain", "classes": "Which classes gain", "confusion": "What is taken for what",
    "rounds": "How many rounds are enough", "left_out": "What if a site drops out",
    "shots": "How many labelled images", "bytes": "Bytes, beside other ways", "work": "Work at a site",
    "generation": "What the server&#39;s images cost", "privacy": "Privacy, by what happened",
    "choice": "How settings were chosen", "provenance": "Provenance and licences", "untested": "What was not tested",
}  # fmt: skip


def text_of(rendered: str) -> str:
    """What a reader sees, but for charts."""
    plain = re.sub(r"<style.*?</style>|<svg.*?</svg>", " ", rendered, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", plain)))


def test_the_first_page_has_the_verdict_and_four_figures(decision):
    first = text_of(page.render(decision).split('class="rest"')[0])
    assert decision["verdict"]["sentence"] in first
    assert "Better than each site alone? +4.2 ± 1.1 points" in first
    assert "81.2% of 90 test images right, against 77.0%: better, by CacheFL." in first
    assert "How much does a site send? 120 KiB" in first  # 20 rounds of 6 KiB
    assert "their training images once would be 163 KiB" in first  # 900 bytes of 180, and three heads of 1,536
    assert "How much work at a site? 312 ms" in first  # 90 / 800 s, and 20 * 0.03 / 3 s
    assert "Is it private? Training images stay at the sites." in first


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_was_not_computed_is_left_out(decision, section):
    assert SECTIONS[section] in page.render(decision)
    decision[section] = None
    assert SECTIONS[section] not in page.render(decision)


def test_every_site_class_and_row_is_told_with_its_figures(decision):
    text = text_of(page.render(decision))
    assert "Aachen <north> 90 30 60.0% 70.0% 80.0% +10.0 ± 2.0 better" in text
    assert "Bonn 60 30 60.0% 70.0% 80.0% -5.0 ± 1.5 worse" in text
    assert "Celle 30 30 60.0% 70.0% 80.0% +0.4 ± 2.0 no difference within error" in text
    assert "frog 60 30 70.0% 80.0% +1.0 ± 3.0 no difference within error" in text
    assert (
        "CacheFL (recommended) cache.alpha=3.0 81.2% ± 2.4 80.2% +4.2 ± 1.1 better +7.2 ± 1.5 20 6 KiB 720 KiB 12"
        in text
    )
    assert "each site alone 77.0% ± 2.4 76.0% - - - - - 1" in text
    assert "Aachen <north> 81.0% 79.0% -2.0 80.0% 70.0% -10.0" in text
    assert "<north>" not in page.render(decision)  # escaped


def test_a_gain_is_blue_and_a_loss_is_orange_and_the_deepest_is_the_largest(decision):
    cells = re.findall(r'class="tinted" style="background: ([^"]*)">([^<]*)<', page.render(decision))
    colours = {text: colour for colour, text in cells}
    assert "--blue) 45%" in colours["+10.0 ± 2.0"]
    assert "--orange) 22%" in colours["-5.0 ± 1.5"]
    assert colours["+0.4 ± 2.0"] == "transparent"  # may be chance


def test_of_many_classes_the_most_confused_pairs_are_told(large):
    counts = np.array(large["confusion"]["counts"])
    np.fill_diagonal(counts, -1)
    rendered = page.render(large)
    assert '<table class="confusion">' not in rendered
    assert rendered.count("class number") > 40
    assert f'<th scope="row">{counts.max()}</th>' in rendered


def test_without_anything_but_rows_the_page_still_decides(decision):
    bare = {name: decision[name] for name in ("verdict", "recommended", "own", "rows", "data", "config")}
    bare["rows"] = {"cachefl": decision["rows"]["cachefl"] | {"against_alone": None, "error": None}}
    first = text_of(page.render(bare))
    assert "How accurate? 81.2%" in first
    assert "not counted" in first
    assert "not measured" in first


def test_it_is_made_from_json_alone_and_always_the_same(decision):
    again = json.loads(json.dumps(decision))
    assert page.render(again) == page.render(decision)


def test_it_asks_for_nothing_from_elsewhere(decision):
    rendered = page.render(decision)
    assert "<script" not in rendered
    assert not re.search(r'(?:src|href)="(?!data:|#)', rendered)


@pytest.fixture
def browse(tmp_path, large):
    """Runs the browser on the page of many classes."""
    if BROWSER is None:
        pytest.skip("no browser here")
    path = tmp_path / "poc.html"
    path.write_text(page.render(large))

    def run(*flags: str) -> None:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
        subprocess.run([*command, *flags, path.as_uri()], capture_output=True, timeout=60, check=True)

    return run


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_sticks_out_of_the_window(browse, tmp_path, width):
    browse(f"--window-size={width},6000", f"--screenshot={tmp_path / 'page.png'}")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert (pixels < 128).any()  # something is drawn
    assert (pixels[:, -4:] == 255).all()
