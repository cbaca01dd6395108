"""report.html: whole, self-contained, the same each time, and refused in one line where the workdir is not whole."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.errors import UsageError
from cachefl_jax.report import write_report

ROUND_0 = dict.fromkeys(("round", "bytes_up", "bytes_down", "seconds", "cohort"), 0) | dict.fromkeys(
    ("test_accuracy", "validation_accuracy", "train_loss")
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Collects the text, the attributes and whatever is not closed in its order."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*workdirs) -> Page:
    output = workdirs[0].parent / "page.html"
    return Page(write_report(workdirs, output).read_text(encoding="utf-8"))


def test_page_is_well_formed_and_lies_where_it_should(make_workdir):
    assert write_report([make_workdir()]).read_text(encoding="utf-8").startswith("<!doctype html>")
    first, second = make_workdir("first"), make_workdir("second")
    path = write_report([first, second], first.parent / "both.html")
    assert path == first.parent / "both.html"
    assert Page(path.read_text(encoding="utf-8")).open == []


def test_nothing_is_loaded_from_outside(make_workdir):
    path = write_report([make_workdir()])
    page = Page(path.read_text(encoding="utf-8"))
    sources = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    assert sources
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)
    assert not page.of("script")
    assert not page.of("link")
    text = path.read_text(encoding="utf-8")
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "default-src 'none'" in text
    assert str(path.parent) not in text


def test_ids_are_unique_and_references_resolve(make_workdir):
    page = page_of(make_workdir("a"), make_workdir("b", seed=1))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["xlink:href"][1:] for attributes in page.of("use")}
    used |= {attributes["clip-path"][5:-1] for _, attributes in page.tags if "clip-path" in attributes}
    assert used <= set(ids)


def test_figures_are_on_the_page(make_workdir):
    text = page_of(make_workdir()).text
    assert "CacheFL classifies 94.1% of the test images correctly, within error of closed_form" in text
    for accuracy in ("61.2%", "66.3%", "35.4%", "95.5%", "84.7%", "94.1%"):
        assert accuracy in text
    for figure in ("10.1 to 58.7", "closed_form", "2.50 GFLOP", "42.1 ms", "4,096 bytes", "8 KiB", "49,152 bytes"):
        assert figure in text
    # 2,000,000 bytes there and back against 8,192, and 4 clients in 3 rounds.
    for figure in ("244 times less", "2,000,000 bytes", "24,000,000 bytes", "Fonts, not pens.", "Privacy"):
        assert figure in text
    assert "clients without samples 1" in text
    assert "3.8 points, from 40 test rows" not in text
    assert "3.7 points, from 40 test rows" in text


def test_same_workdir_same_bytes(make_workdir):
    workdir = make_workdir()
    first = write_report([workdir]).read_bytes()
    assert write_report([workdir]).read_bytes() == first


def test_page_is_replaced_whole(make_workdir, monkeypatch):
    workdir = make_workdir()
    before = write_report([workdir]).read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write_report([workdir])
    assert (workdir / "report.html").read_bytes() == before
    assert [path.name for path in workdir.iterdir() if path.name.startswith(".")] == []


def test_several_runs_share_plot_and_table_and_name_what_differs(make_workdir):
    page = page_of(make_workdir("narrow"), make_workdir("wide", seed=7))
    assert "What differs between the runs run seed narrow 0 wide 7 " in page.text
    assert "2 runs compared" in page.text
    assert len([row for row in page.of("table") if row.get("class") == "methods"]) == 1
    charts = [row["aria-label"] for row in page.of("svg")]
    assert len(charts) == 2 * (1 + 1)  # two widths of the curves, and of who holds what, which is alike in both
    assert "narrow: from 66.3% in round 0 to 94.1% in round 3; " in charts[0]
    assert "wide: from 66.3% in round 0" in charts[0]


def test_runs_of_the_same_name_are_told_apart(make_workdir, tmp_path):
    (tmp_path / "other").mkdir()
    text = page_of(make_workdir("run"), make_workdir("other/run")).text
    assert "run (1)" in text
    assert "run (2)" in text


def test_feature_bank_without_images_or_model(make_workdir):
    page = page_of(make_workdir(feature_bank=True))
    assert "This run worked on features, not on images" in page.text
    assert not page.of("img")
    assert "whole model" not in page.text.replace("there is no whole model to compare with", "")


def test_class_names_are_text(make_workdir):
    path = write_report([make_workdir()])
    text = path.read_text(encoding="utf-8")
    assert "<b>one" not in text
    page = Page(text)
    assert "<b>one</b> & $co$" in page.text
    assert "4 images of class <b>one</b> & $co$, server" in [image["alt"] for image in page.of("img")]


def test_images_are_shown_with_their_own_pixels(make_workdir):
    sources = [image["src"] for image in page_of(make_workdir()).of("img")]
    assert len(sources) == 6
    strips = [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) for source in sources]
    assert [strip.size for strip in strips[:2]] == [(4 * 64 + 3 * 4, 64), (2 * 64 + 4, 64)]
    assert strips[0].getpixel((0, 0)) == (255, 0, 255, 255)
    assert strips[1].getpixel((131, 63)) == (0, 200, 40, 255)
    assert strips[1].getpixel((65, 0))[3] == 0


def test_values_may_be_null(make_workdir):
    workdir = make_workdir()
    summary = json.loads((workdir / "summary.json").read_text())
    summary["methods"] = {name: dict.fromkeys(method) for name, method in summary["methods"].items()}
    (workdir / "summary.json").write_text(json.dumps(summary))
    (workdir / "metrics.jsonl").write_text(json.dumps(ROUND_0) + "\n")
    text = page_of(workdir).text
    assert "no test accuracy was measured" in text
    assert "No federated round was run." in text


def test_run_without_rounds_needs_no_metrics(make_workdir):
    workdir = make_workdir()
    summary = json.loads((workdir / "summary.json").read_text())
    del summary["methods"]["cachefl"]
    (workdir / "summary.json").write_text(json.dumps(summary))
    (workdir / "metrics.jsonl").unlink()
    assert "zero-shot CLIP 61.2%" not in page_of(workdir).text


def test_many_clients_and_classes_keep_the_page_small(make_workdir):
    workdir = make_workdir(feature_bank=True)
    counts = np.random.default_rng(0).poisson(0.1, (500, 1000))
    offsets = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    np.savez(workdir / "partition.npz", offsets=offsets, class_counts=counts)
    summary = json.loads((workdir / "summary.json").read_text())
    summary["dataset"] |= {"class_names": [f"class {index}" for index in range(1000)], "classes": 1000}
    (workdir / "summary.json").write_text(json.dumps(summary))
    path = write_report([workdir])
    assert path.stat().st_size < 400_000
    assert "a dot stands for the fullest of its cells" in Page(path.read_text(encoding="utf-8")).text


def test_names_in_any_script(make_workdir):
    workdir = make_workdir(feature_bank=True)
    summary = json.loads((workdir / "summary.json").read_text())
    summary["dataset"]["class_names"] = ["猫", "собака", "🦜"]
    (workdir / "summary.json").write_text(json.dumps(summary))
    assert "猫" in page_of(workdir).text


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", "partition.npz"])
def test_missing_file_is_named(make_workdir, name):
    workdir = make_workdir()
    (workdir / name).unlink()
    with pytest.raises(UsageError, match=rf"{name}: got missing.*mend: (repeat the run's own command|bring it back)"):
        write_report([workdir])
    assert not (workdir / "report.html").exists()


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", "partition.npz", "images.npz"])
def test_cut_file_is_named(make_workdir, name):
    workdir = make_workdir()
    content = (workdir / name).read_bytes()
    (workdir / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UsageError, match=name):
        write_report([workdir])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "[]"),
        ("summary.json", '{"dataset": {"class_names": []}, "methods": {}}'),
        ("summary.json", '{"dataset": {"class_names": ["a", "b", "c"]}, "methods": {"cachefl": 3}}'),
        ("summary.json", '{"dataset": {"class_names": ["a", "b", "c"]}, "methods": {}, "whole_model": {"name": "x"}}'),
        ("metrics.jsonl", "[1]\n"),
        ("metrics.jsonl", '{"test_accuracy": 0.5}\n'),
        ("config.json", "null"),
    ],
)
def test_file_of_another_shape_is_named(make_workdir, name, content):
    workdir = make_workdir()
    (workdir / name).write_text(content)
    with pytest.raises(UsageError, match=name):
        write_report([workdir])


def test_figure_that_is_none_is_named(make_workdir):
    workdir = make_workdir()
    (workdir / "metrics.jsonl").write_text(json.dumps(ROUND_0 | {"test_accuracy": "high"}) + "\n")
    with pytest.raises(UsageError, match=r"metrics.jsonl, line 1: got test_accuracy = 'high'"):
        write_report([workdir])


@pytest.mark.parametrize(
    "arrays",
    [
        {"class_counts": np.ones((2, 3), int)},
        {"offsets": np.arange(3), "class_counts": np.ones((2, 4), int)},
        {"offsets": np.arange(3), "class_counts": np.ones((2, 3), int)},
        {"offsets": np.array([0, 3, 6.0]), "class_counts": np.ones((2, 3), int)},
        {"offsets": np.array([0, 3], object), "class_counts": np.ones((1, 3), int)},
        {"offsets": np.array([[0, 3]]), "class_counts": np.ones((1, 3), int)},
        {"offsets": np.zeros(0, int), "class_counts": np.ones((1, 3), int)},
        {"offsets": np.array([0, 3]), "class_counts": np.ones((1, 3))},
        {"offsets": np.array([0, 0]), "class_counts": np.array([[3, -3, 0]])},
        {"offsets": np.array([0, 3])},
        {"offsets": np.array([0, 3]), "cells": np.array([1])},
        {"offsets": np.array([0, 3]), "cells": np.array([3]), "cell_counts": np.array([3])},
        {"offsets": np.array([0, 3]), "cells": np.array([0, 2]), "cell_counts": np.array([3])},
        {"offsets": np.array([0, 3]), "cells": np.array([0, 2]), "cell_counts": np.array([1, 1])},
        {"offsets": np.array([0, 3]), "cells": np.array([0, 2]), "cell_counts": np.array([4, -1])},
        {"offsets": np.array([0, 3]), "class_counts": np.ones((1, 3), int), "indices": np.array(["a", "b", "c"])},
        {"offsets": np.array([0, 3]), "class_counts": np.ones((1, 3), int), "indices": np.array([[0, 1, 2]])},
    ],
)
def test_partition_at_odds_with_itself_is_refused(make_workdir, arrays):
    workdir = make_workdir()
    np.savez(workdir / "partition.npz", **arrays)
    with pytest.raises(UsageError, match=r"partition\.npz"):
        write_report([workdir])


def test_images_of_another_shape_are_refused(make_workdir):
    workdir = make_workdir()
    np.savez(workdir / "images.npz", synthetic=np.zeros((3, 1, 4, 4, 3)), real=np.zeros((3, 1, 4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match=r"images\.npz.*synthetic float64"):
        write_report([workdir])


def test_no_workdir_is_refused(tmp_path):
    with pytest.raises(UsageError, match="one workdir or more"):
        write_report([])
    with pytest.raises(UsageError, match="a directory that a run wrote"):
        write_report([tmp_path / "nowhere"])


def test_the_work_of_encoding_and_of_training_the_encoder_is_told(make_workdir):
    workdir = make_workdir("a")
    path = workdir / "summary.json"
    summary = json.loads(path.read_text())
    summary["whole_model"] |= {"image_forward_flops": 4e9, "image_backward_flops": 8e9}
    summary["dataset"] |= {"train": 60, "clients": 6}
    path.write_text(json.dumps(summary))
    text = " ".join(write_report([workdir]).read_text().split())
    assert "Encoding its images before the first round takes <strong>40 GFLOP</strong>" in text
    assert "would take 120 GFLOP a round, 48.0 times as much" in text  # 12e9 x 10 rows against 2.5e9


def test_without_the_encoders_arithmetic_nothing_is_said_of_it(make_workdir):
    assert "Encoding its images" not in write_report([make_workdir("a")]).read_text()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("diffusers", "What the generator drew"),
        ("held_out", "real images set apart for the server, which no client holds"),
        ("image_folder", "What the server was given"),
    ],
)
def test_where_the_servers_images_come_from_is_said(make_workdir, source, said):
    assert said in write_report([make_workdir("a", synthesis={"source": source})]).read_text()
