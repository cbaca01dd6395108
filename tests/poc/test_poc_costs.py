"""Bytes of a run beside its alternatives, work at a site, and what a set cost to draw: against sums done here."""

import pytest

from cachefl_jax.poc import costs, generation, work

ROUND = 4 * 3 * 2 * 8  # bytes of keys [3, 2, 8], one way
SITES = [{"name": "north", "train": 10, "image_bytes": 5_000}, {"name": "south", "train": 30, "image_bytes": 9_000}]
ROW = {
    "label": "CacheFL", "rounds": 20, "uplink_bytes_per_client_round": ROUND, "downlink_bytes_per_client_round": ROUND,
    "total_bytes": 2 * 20 * 2 * ROUND,
}  # fmt: skip
MODEL = {"name": "tiny CLIP", "bytes": 1_000_000}


def facts(**more) -> costs.Facts:
    return costs.Facts({"cachefl": ROW}, "cachefl", "cachefl", SITES, 3, 8, MODEL)._replace(**more)


def ways(told: costs.Facts) -> dict:
    return {way.name: way for way in costs.ways_of(told)}


def test_bytes_of_every_way_are_those_of_its_arrays_and_files():
    found = ways(facts())
    head = 4 * 3 * 8
    expected = {  # up and down of the site that moves most, of all sites
        "cachefl": (20 * ROUND, 20 * ROUND, 80 * ROUND),
        "whole_model": (20_000_000, 20_000_000, 80_000_000),
        "whole_model_once": (1_000_000, 1_000_000, 4_000_000),
        "features_once": (30 * 36, head, 40 * 36 + 2 * head),
        "images_once": (9_000, head, 14_000 + 2 * head),
        "linear_probe": (20 * head, 20 * head, 80 * head),
    }
    assert {name: (way.up, way.down, way.all) for name, way in found.items()} == expected


def test_a_probe_that_was_run_is_counted_as_it_ran_and_once():
    probe = ROW | {"label": "linear probe", "total_bytes": 40 * 200, "uplink_bytes_per_client_round": 100,
                   "downlink_bytes_per_client_round": 100}  # fmt: skip
    told = facts(rows={"cachefl": ROW, "linear_probe": probe})
    assert ways(told)["linear_probe"].all == 8_000
    found = costs.ways_of(told._replace(recommended="linear_probe"))
    assert [way.name for way in found].count("linear_probe") == 1


def test_a_cohort_of_half_the_sites_moves_half_a_site():
    half = ROW | {"total_bytes": ROW["total_bytes"] / 2}
    way = ways(facts(rows={"cachefl": half}))["cachefl"]
    assert way.up == 10 * ROUND
    assert (way.exchanges, way.how) == (10, "10 of 20 rounds, in which a site takes part on average")


def test_features_that_a_row_sent_once_count_once_whatever_its_rounds_of_training():
    row = ROW | {"label": "features sent once", "rounds": 30.0, "uplink_bytes_per_client_round": 900,
                 "downlink_bytes_per_client_round": 100, "total_bytes": 2_000.0}  # fmt: skip
    found = costs.ways_of(facts(rows={"cachefl": ROW, "features_once": row}, recommended="features_once"))
    (way,) = [way for way in found if way.name == "features_once"]
    assert (way.up, way.down, way.exchanges, way.how) == (900, 100, 1, "sent once, as counted")


def test_where_the_row_of_features_sent_once_ran_it_is_said_what_it_moved_otherwise():
    row = ROW | {"label": "features sent once", "total_bytes": 4096.0}
    for rows, told in (({}, False), ({"features_once": row}, True)):
        way = ways(facts(rows={"cachefl": ROW} | rows))["features_once"]
        assert way.label == row["label"]
        assert ("the row of this name sends back the method's whole model, 4 KiB in all" in way.how) == told


def test_a_single_round_is_no_all_rounds():
    told = work.work(SITE._replace(rounds=1, round_seconds=None), HERE)
    assert "training is of the one round, a site of average size" in told["sentences"][0]
    assert told["machines"][0]["source"].endswith("a single round is not timed apart from compiling it")


def test_seconds_are_bytes_over_the_lines_rates_and_its_latency():
    found = costs.costs(facts())["uplinks"]
    assert [line["name"] for line in found["lines"]] == ["office", "phone", "hospital"]
    expected = 8 * 20 * ROUND / 1e6 + 8 * 20 * ROUND / 12e6 + 2 * 20 * 0.04
    assert found["seconds"]["cachefl"]["office"] == pytest.approx(expected)
    assert all("assumed" in line["source"] or "20" in line["source"] for line in found["lines"])


@pytest.mark.parametrize(("image_bytes", "more"), [(100, True), (10_000_000, False)])
def test_it_is_told_where_images_once_are_less(image_bytes, more):
    told = costs.costs(facts(sites=[site | {"image_bytes": image_bytes} for site in SITES]))["bytes"]["sentences"]
    first = next(sentence for sentence in told if "images once" in sentence)
    assert ("times more" in first) == more
    assert ("times less" in first) != more
    assert any("Bytes do not speak" in sentence for sentence in told) == more


def test_bytes_of_the_runs_own_row_are_told_beside_those_of_the_recommended_one():
    small = ROW | {"label": "ridge", "rounds": 1, "total_bytes": 2 * 2 * ROUND}
    rows = {"cachefl": ROW, "ridge": small}
    told = costs.costs(facts(rows=rows, recommended="ridge"))["bytes"]["sentences"]
    assert sum("images once would take" in sentence for sentence in told) == 2
    assert [sentence for sentence in told if "Bytes do not speak" in sentence] == [
        "Bytes do not speak for CacheFL here. What may is that images stay at the sites."
    ]


def test_what_is_not_known_is_left_out():
    found = ways(facts(model=None, sites=[site | {"image_bytes": None} for site in SITES]))
    assert set(found) == {"cachefl", "features_once", "linear_probe"}


SITE = work.Site(600, 2e9, 20, 5e8, 0.4, 5)
HERE = work.Here(300.0, 3 * 10**9, 10**6)


def test_work_is_measured_here_and_reckoned_for_others():
    told = work.work(SITE, HERE)
    here, *others = told["machines"]
    assert (here["encoding_seconds"], here["training_seconds"]) == pytest.approx((2.0, 20 * 0.4 / 5))
    assert here["kind"] == "measured"
    by_name = {each["name"]: each for each in others}
    office = by_name["office computer"]
    assert (office["encoding_seconds"], office["training_seconds"]) == pytest.approx(
        (600 * 2e9 / 1e11, 20 * 5e8 / 1e11)
    )
    assert office["kind"] == "assumed"
    assert (office["fits"], by_name["phone"]["fits"]) == (True, False)
    card = by_name["one NVIDIA H200"]
    assert card["training_seconds"] == pytest.approx(20 * 0.2e-3)  # as small a round as it has
    assert all(each["source"] for each in told["machines"])


def test_without_an_encoder_only_training_is_known():
    told = work.work(SITE._replace(image_flops=None, round_seconds=None), work.Here(None, None, None))
    assert all(each["encoding_seconds"] is None for each in told["machines"])
    assert told["machines"][0]["training_seconds"] is None
    assert told["machines"][1]["training_seconds"] is not None
    assert all(each["fits"] is None for each in told["machines"])


DRAWN = generation.Facts("diffusers", "", {"seconds": 36.0, "timed": 40, "device": "2 CPU cores"}, 40, 0.0)


def test_a_drawn_set_has_its_seconds_and_a_price_where_one_is_told():
    free, priced = generation.generation(DRAWN), generation.generation(DRAWN._replace(price_gpu_hour=2.5))
    assert (free["seconds"], free["price"], priced["price"]) == (36.0, None, pytest.approx(0.025))
    assert "40 images were drawn in 36.0 s on 2 CPU cores, 900 ms an image." in free["sentences"]
    assert any("Price: not told" in sentence for sentence in free["sentences"])
    assert any("2.5 an hour" in sentence and "0.025" in sentence for sentence in priced["sentences"])
    assert any(sentence.startswith("Energy: not measured") for sentence in free["sentences"])
    measured = generation.generation(DRAWN._replace(manifest={**DRAWN.manifest, "energy_joules": 720_000.0}))
    assert any("Energy: 0.2 kWh" in sentence for sentence in measured["sentences"])


def test_a_drawing_that_was_resumed_counts_all_its_images():
    told = generation.generation(DRAWN._replace(manifest={"seconds": 36.0, "timed": 10}))
    assert told["seconds"] == 144.0
    assert "The other 30 of 40" in told["sentences"][0]


@pytest.mark.parametrize(
    ("source", "words"),
    [("image_folder", "Not known: the images came from the folder /somewhere/brought."),
     ("held_out", "Nothing was generated"),
     ("bank", "Not known: the bank")],
)  # fmt: skip
def test_a_set_that_was_not_drawn_here_has_no_seconds(source, words):
    told = generation.generation(generation.Facts(source, "/somewhere/brought", {"seconds": 3.0}, 40, 2.5))
    assert (told["seconds"], told["price"]) == (None, None)
    sentence, price = told["sentences"]
    assert words in sentence
    assert price == "The price of an hour (synthesis.price_gpu_hour) has no effect: no image was drawn here."
    free = generation.generation(generation.Facts(source, "/somewhere/brought", {}, 40, 0.0))
    assert free["sentences"] == [sentence]
