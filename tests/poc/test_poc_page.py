"""poc.html: every figure of decision.json is on it, what was not computed is not, and it fits paper and phone."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.poc import charts, page
from cachefl_jax.study.statistics import EQUAL

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
    assert "Aachen <north> +10.0 ± 2.0 better 60.0% 70.0% 80.0% 90 30" in text
    assert "Bonn −5.0 ± 1.5 worse 60.0% 70.0% 80.0% 60 30" in text
    assert "Celle +0.4 ± 2.0 no difference within error 60.0% 70.0% 80.0% 30 30" in text
    assert "frog +1.0 ± 3.0 no difference within error 70.0% 80.0% 60 30" in text
    assert (
        "CacheFL recommended cache.alpha=3.0 81.2% ± 2.4 +4.2 ± 1.1 better +7.2 ± 1.5 720 KiB 6 KiB 20 80.2% 12" in text
    )
    assert "each site alone 77.0% ± 2.4 - - - - - 76.0% 1" in text
    assert "Aachen <north> 81.0% 79.0% −2.0 80.0% 70.0% −10.0" in text
    assert "<north>" not in page.render(decision)  # escaped


def test_a_gain_is_blue_and_a_loss_is_orange_and_the_deepest_is_the_largest(decision):
    cells = re.findall(r'class="tinted" style="background: ([^"]*)">([^<]*)<', page.render(decision))
    colours = {text.replace("\u00a0", " "): colour for colour, text in cells}
    assert "--blue) 45%" in colours["+10.0 ± 2.0"]
    assert "--orange) 22%" in colours["−5.0 ± 1.5"]
    assert colours["+0.4 ± 2.0"] == "transparent"  # may be chance


def test_the_caveat_stands_right_under_the_verdict(decision):
    decision["verdict"]["caveat"] = ["This verdict is about this encoder."]
    text = text_of(page.render(decision))
    assert f"{decision['verdict']['sentence']} This verdict is about this encoder." in text


def test_a_row_is_recommended_only_where_it_is_better(decision):
    assert "CacheFL recommended" in text_of(page.render(decision))
    decision["verdict"]["kind"] = "equal"
    text = text_of(page.render(decision))
    assert "CacheFL best on validation of those that send no image" in text
    assert "CacheFL recommended" not in text


def test_a_verdict_that_its_interval_contradicts_gives_its_p_in_every_table(decision):
    found = {"points": 3.0, "half": 2.0, "p": 0.09, "p_single": 0.03, "comparisons": 3, "verdict": EQUAL}
    decision["rows"]["ridge"]["against_alone"] = decision["sites"][0]["gain"] = decision["classes"][0]["gain"] = found
    told = "+3.0 ± 2.0 no difference within error; p = 0.03 by itself, 0.09 adjusted for 3 comparisons"
    assert text_of(page.render(decision)).count(told) == 3


def test_rounds_are_told_of_their_row_and_only_where_they_settled(decision):
    decision["rounds"] |= {"row": "cachefl", "settled": True, "of": 20, "seed": 4}
    text = text_of(page.render(decision))
    assert "10 rounds. Of CacheFL, by The first round within" in text
    assert "By seed 4 alone" in text
    decision["rounds"] |= {"settled": False, "recommended": {"label": "ridge", "rounds": 1.0}}
    text = text_of(page.render(decision))
    assert "Not settled within 20 rounds. Of CacheFL" in text
    assert "The row that is best on validation, ridge, takes 1 round: nothing of this holds for it." in text


def test_whiskers_are_told_of_only_where_there_are_some(decision):
    assert "whiskers are one standard deviation" in page.render(decision)
    del decision["shots"]["std"]
    text = text_of(page.render(decision))
    assert "whiskers" not in text
    assert "By seed 0 alone, with the settings that were chosen with all images" in text


def test_labels_that_differ_at_their_ends_stay_apart_and_no_figure_leaves_its_error(decision):
    labels = ["the whole pocket CLIP, every round", "the whole pocket CLIP, once"]
    assert len(set(charts.wrapped(labels, 4.0))) == 2
    rendered = page.render(decision)
    assert not re.search(r"\d ± |>-\d", rendered)


def test_every_row_is_explained(decision):
    meanings = text_of(page.render(decision)).split("What the words mean")[1]
    assert all(row["label"] in meanings for row in decision["rows"].values())


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
    """(flags, rules of style that are added) runs the browser on the page of many classes."""
    if BROWSER is None:
        pytest.skip("no browser here")
    path = tmp_path / "poc.html"

    def run(*flags: str, style: str = "") -> None:
        path.write_text(page.render(large).replace("</style>", f"{style}</style>"))
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


def test_printed_tables_go_on_over_the_page(browse, tmp_path):
    """Tables that were kept whole once left half of the page before them empty."""

    def pages(style: str = "") -> int:
        browse(f"--print-to-pdf={tmp_path / 'page.pdf'}", style=style)
        return len(re.findall(rb"/Type /Page\b", (tmp_path / "page.pdf").read_bytes()))

    assert 0 < pages() < pages("table { break-inside: avoid; }")
