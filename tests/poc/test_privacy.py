"""What is said of privacy and of what was chosen: the sentence that applies to a run, and not the others."""

import pytest

from cachefl_jax.poc import privacy

# A phrase of each sentence on the server's set, of which one set has these and no others.
PHRASES = {
    "real": "real images of the sites: 4 of every class left them",
    "drawn": "drawn by a generator from words: no site gave an image",
    "said generated": "said to be generated",
    "said real": "said to be real public images",
    "unknown": "is not known (poc.synthetic_origin says nothing of it)",
    "features": "This run saw features",
}
SETS = {
    "held_out": ({"source": "held_out", "images_per_class": 4}, "unknown", {"real"}),
    "pocket": ({"source": "pocket", "images_per_class": 4}, "unknown", {"drawn"}),
    "diffusers": ({"source": "diffusers", "images_per_class": 9}, "unknown", {"drawn"}),
    "hybrid, drawn": ({"source": "diffusers", "images_per_class": 9, "real_images": 4}, "unknown", {"real", "drawn"}),
    "hybrid, brought": (
        {"source": "image_folder", "images_per_class": 9, "real_images": 4}, "generated", {"real", "said generated"},
    ),
    "brought": ({"source": "image_folder", "images_per_class": 9}, "unknown", {"unknown"}),
    "brought, generated": ({"source": "image_folder", "images_per_class": 9}, "generated", {"said generated"}),
    "brought, real": ({"source": "image_folder", "images_per_class": 9}, "real", {"said real"}),
    "bank": ({"source": "bank", "images_per_class": 9}, "unknown", {"features"}),
}  # fmt: skip
ENTRIES = {
    "cachefl": {"label": "CacheFL", "privacy": "A client sends tuned keys."},
    "ridge": {"label": "ridge", "privacy": "A client sends sums."},
}
GUARANTEE = {"guarantee": "With noise: epsilon 2 at delta 1e-05.", "epsilon": 2.0, "delta": 1e-5}


def facts(synthesis=None, origin="unknown", mechanism="none", aggregation="mean", **more) -> privacy.Facts:
    config = {
        "synthesis": synthesis or SETS["pocket"][0], "poc": {"synthetic_origin": origin},
        "privacy": {"mechanism": mechanism}, "aggregation": {"name": aggregation},
    }  # fmt: skip
    return privacy.Facts(config, ENTRIES, "cachefl", "cachefl")._replace(**more)


def text(told: privacy.Facts) -> str:
    return " ".join(privacy.privacy(told)["sentences"])


@pytest.mark.parametrize(("synthesis", "origin", "due"), SETS.values(), ids=SETS)
def test_the_servers_set_is_told_by_where_it_came_from(synthesis, origin, due):
    told = facts(synthesis, origin)
    assert {name for name, phrase in PHRASES.items() if phrase in text(told)} == due
    stays = "Training images stay at the sites" in privacy.privacy(told)["headline"]
    assert stays == ("real" not in due)


def test_noise_is_told_with_its_guarantee_or_as_absent():
    without, with_noise = facts(), facts(mechanism="gaussian", entries={"cachefl": ENTRIES["cachefl"] | GUARANTEE})
    assert "No differential privacy" in text(without)
    assert "epsilon" not in text(without)
    assert "epsilon 2 at delta 1e-05" in text(with_noise)
    assert "No differential privacy" not in text(with_noise)
    headlines = [privacy.privacy(each)["headline"] for each in (without, with_noise)]
    assert ["no differential privacy" in each for each in headlines] == [True, False]
    assert "epsilon 2" in headlines[1]


def test_a_recommended_row_without_a_guarantee_has_none_though_noise_is_set():
    told = facts(mechanism="gaussian", recommended="ridge")
    assert "the recommended row has no guarantee" in text(told)
    assert "no differential privacy" in privacy.privacy(told)["headline"]


@pytest.mark.parametrize(("name", "secure"), [("mean", False), ("secure_mean", True), ("secure_uniform", True)])
def test_sums_are_secure_only_where_they_were(name, secure):
    told = text(facts(aggregation=name))
    assert ("Secure sums:" in told) == secure
    assert ("No secure sums" in told) != secure


def test_what_is_sent_is_told_of_the_recommended_row_and_of_the_runs_own():
    assert text(facts()).count("A client sends") == 1
    both = text(facts(recommended="ridge"))
    assert both.index("Ridge: A client sends sums.") < both.index("CacheFL: A client sends tuned keys.")


def test_features_sent_once_are_named_on_the_first_page():
    told = facts(recommended="features_once")
    assert "every image's feature leaves them" in privacy.privacy(told)["headline"]


def case(update: str, rows: int, cosine: float) -> dict:
    share = {"mean": 0.5, "low": 0.4, "high": 0.6}
    return {"update": update, "rows": rows, "cosine": {"mean": cosine, "low": 0.1, "high": 0.9},
            "cosine_by_chance": 0.2, "named_rows": share, "exact_classes": share}  # fmt: skip


def test_a_leak_is_told_where_it_was_measured_of_the_run_as_it_is():
    assert "was not measured" in text(facts())
    plain = [case("as the run trains", 4, 0.3), case("as the run trains", 1, 0.7)]
    told = text(facts(inversion={"cases": plain}))
    assert "was not measured" not in told
    assert "from an update of 1 row" in told
    assert "0.70 (0.10 to 0.90)" in told
    headlines = [privacy.privacy(facts(inversion={"cases": plain}, recommended=name))["headline"] for name in ENTRIES]
    assert "leak measured, see below" in headlines[0]
    assert "leak of ridge not measured, that of CacheFL is told below" in headlines[1]  # the audit is of CacheFL
    assert "Measured leak of CacheFL" in told
    assert "give away was not measured" in text(facts(inversion={"cases": plain}, recommended="ridge"))
    assert "leak not measured" in privacy.privacy(facts())["headline"]
    own = text(facts(inversion={"cases": [*plain, case("this run as it is", 1, 0.15)]}))
    assert "0.15 (0.10 to 0.90)" in own
    assert "0.70" not in own


@pytest.mark.parametrize(
    ("validation", "points", "due"),
    [(0, 12, "nothing was chosen"), (80, 1, "No setting was searched"), (80, 12, "settings were chosen too")],
)
def test_chosen_on_validation_is_said_only_where_something_was(validation, points, due):
    phrases = ("nothing was chosen", "No setting was searched", "settings were chosen too")
    told = privacy.choice(privacy.Choice(validation, points, 100))
    assert [phrase for phrase in phrases if phrase in told] == [due]
    assert ("80 validation images" in told) == bool(validation)
