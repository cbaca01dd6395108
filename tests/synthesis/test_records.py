"""Provenance, licence, datasheet and Croissant of the server's set."""

import csv
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.storage.files import file_digest
from cachefl_jax.synthesis import croissant, datasheet
from cachefl_jax.synthesis.licence import terms_of, terms_of_pipeline
from cachefl_jax.synthesis.origins import Origin
from cachefl_jax.synthesis.pipeline import POCKET
from cachefl_jax.synthesis.records import Candidate, Facts, as_jsonl, costs

REVISION = "0123456789" * 4
DRAWING = {
    "weights_sha256": "ab", "scheduler": "DDIMScheduler", "steps": 4, "guidance": 2.0, "dtype": "float32",
    "device": "2 CPU cores", "versions": {"torch": "2.13.0"}, "date": "2026-11-27T00:00:00+00:00", "seconds": 3.0,
    "timed": 6, "energy_joules": 7200.0, "seeds": [[1, 2, 3, 4], [5, 6, 7, 8]], "redrawn": 0,
}  # fmt: skip


def card(folder, header):
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(header)
    return folder


@pytest.mark.parametrize(
    ("header", "licence", "link"),
    [
        ("---\nlicense: creativeml-openrail-m\n---\n# A model", "creativeml-openrail-m", None),
        ("---\nlicense: other\nlicense_name: flux-1\nlicense_link: LICENSE.md\n---\n", "flux-1", "LICENSE.md"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0", None),
        ("---\ntags: [a]\n---\nlicense: mit", None, None),
        ("license: mit", None, None),
        ("---\n: [\n---\n", None, None),
        ("---\nlicense: 3\n---\n", None, None),
    ],
)
def test_the_licence_is_what_the_model_card_says(tmp_path, header, licence, link):
    found = terms_of(card(tmp_path / "model", header))
    assert (found.licence, found.link, found.revision) == (licence, link, None)


def test_a_snapshot_of_the_hub_tells_its_revision_and_a_folder_without_a_card_nothing(tmp_path):
    assert terms_of(card(tmp_path / "snapshots" / REVISION, "")).revision == REVISION
    assert terms_of(tmp_path) == (None, None, None)
    assert terms_of(POCKET).licence == "Apache-2.0"


def test_a_downloads_card_is_fetched_once_and_its_absence_is_no_error(tmp_path, monkeypatch):
    directory = tmp_path / "snapshots" / REVISION
    directory.mkdir(parents=True)
    asked = []

    def download(*given, **more):
        asked.append((*given, more["revision"]))
        if len(asked) == 1:
            raise OSError("no network")
        (directory / "README.md").write_text("---\nlicense: mit\n---\n")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("cachefl_jax.synthesis.licence.find_pipeline", lambda name: directory)
    assert [terms_of_pipeline("some/model").licence for _ in range(3)] == [None, "mit", "mit"]
    assert asked == [("some/model", "README.md", REVISION)] * 2


@pytest.fixture
def candidates(tmp_path):
    """Two drawn images of each of two classes, in files, and a real one."""
    found = []
    for row in range(5):
        file = tmp_path / "images" / "cat" / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), row, np.uint8)).save(file)
        prompt, seed = (f"a cat, {row}", row) if row < 4 else ("", None)
        found.append(
            Candidate(
                row % 2,
                Origin(str(file), f"p{row}", prompt, seed),
                file,
                row == 4,
                (0,) * (row < 2),
                f"images/cat/{row}.png",
            )
        )
    return found


def facts(**more):
    return Facts("diffusers", DRAWING, terms_of(POCKET)._replace(licence="mit"), "some/model", ("cat", "dog"), **more)


def test_every_image_has_its_own_record(candidates):
    lines = [json.loads(line) for line in as_jsonl(facts(), candidates).splitlines()]
    assert [line["how"] for line in lines] == ["drawn"] * 4 + ["real"]
    assert [line["class"] for line in lines] == ["cat", "dog", "cat", "dog", "cat"]
    for line, candidate in zip(lines, candidates, strict=True):
        assert line["sha256"] == file_digest(candidate.file)
        assert line["pixels_sha256"] == candidate.origin.pixels
        assert (line["prompt"], line["seed"]) == (candidate.origin.prompt or None, candidate.origin.seed)
        assert line["keys"] == list(candidate.key)
    first, real = lines[0], lines[-1]
    assert (first["model"], first["licence"], first["scheduler"]) == ("some/model", "mit", "DDIMScheduler")
    assert first["versions"] == {"torch": "2.13.0"}
    assert first["date"] == DRAWING["date"]
    assert real["model"] is None
    assert "licence" not in real


def test_images_that_were_brought_say_what_their_files_say_and_nothing_else(candidates):
    brought = Facts("image_folder", {"source": "image_folder"}, None, "", ("cat", "dog"))
    lines = [json.loads(line) for line in as_jsonl(brought, candidates[:1]).splitlines()]
    assert lines[0]["how"] == "brought"
    assert lines[0]["prompt"] == "a cat, 0"
    assert "licence" not in lines[0]


def test_costs_count_images_of_stopped_processes_at_the_same_rate():
    found = costs(facts(price_gpu_hour=1800.0))
    assert found["seconds"] == 4.0
    assert found["seconds_an_image"] == 0.5
    assert found["price"] == 2.0
    assert found["energy_joules"] == 7200.0
    assert costs(Facts("image_folder", {}, None, "", ("cat",)))["seconds"] is None


def words(found):
    return {question: answer for section in found for question, answer in section.answers}


def test_the_datasheet_tells_what_was_done_and_leaves_the_rest_open(candidates):
    looked = ["Ada saw 4 images."]
    told = words(datasheet.sections(facts(), candidates, looked, {"all": {"frechet": 0.25}}))
    assert "4 drawn, 1 real; 2 of them are part of a key" in told["How many images are there?"]
    assert told["Of which classes?"] == "cat: 3; dog: 2"
    assert told["How near is it to real images?"] == "frechet 0.25"
    assert told["Has a person looked at the images?"] == "Ada saw 4 images."
    assert "mit" in told["On which terms may the images be used?"]
    assert "2 watt-hours" in told["What did it cost?"]
    assert "no price" in told["What did it cost?"]
    assert told["Who made it, who paid for it?"] == datasheet.OPEN
    assert "4 different texts" in told["From which prompts?"]


def test_the_datasheet_of_brought_images_claims_nothing(candidates):
    brought = Facts("image_folder", {"source": "image_folder"}, None, "", ("cat", "dog"))
    told = words(datasheet.sections(brought, candidates[:4], [], {}))
    assert told["Has a person looked at the images?"].startswith("No")
    assert told["On which terms may the images be used?"].startswith("Not known")
    assert "Not known" in told["Does it hold images of real persons or places?"]
    assert "makers" in told["How were the images made?"]


def test_croissant_is_valid_and_its_records_are_the_images(tmp_path, candidates):
    reader = pytest.importorskip("mlcroissant")
    with (tmp_path / croissant.RECORDS).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "prompt", "seed"])
        for each in candidates:
            table.writerow([each.file.name, ("cat", "dog")[each.label], each.origin.prompt, each.origin.seed])
    about = croissant.About("A set", "Drawn images.", None, "2026-11-27")
    text = croissant.as_text(croissant.describe(tmp_path, about, ("png",)))
    (tmp_path / "croissant.json").write_bytes(text)
    assert str(tmp_path) not in text.decode()  # it can be handed on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of rdflib, inside mlcroissant
        dataset = reader.Dataset(str(tmp_path / "croissant.json"))
        assert not dataset.metadata.issues.errors
        assert not dataset.metadata.issues.warnings
        records = sorted(dataset.records("images"), key=lambda record: record["images/file"])
    assert [record["images/class"] for record in records] == [b"cat", b"dog"] * 2 + [b"cat"]
    assert [np.asarray(record["images/image"])[0, 0, 0] for record in records] == list(range(5))
    assert records[1]["images/prompt"] == b"a cat, 1"
