"""Every sentence of the page, and the runs of which it would not be true: there it is not said."""

import numpy as np
import pytest

from cachefl_jax.report import captions, curve, rivals, statements, traffic, words

UNTUNED = {"cachefl": {"rounds": 0, "test_accuracy": 0.663}}


def near(accuracy: float) -> dict:
    return {"test_accuracy": accuracy}


# --- the headline


def test_the_headline_stands_against_the_best_rival_and_names_whoever_is_better(make_run):
    run = make_run(dataset={"test": 4000}, methods={"closed_form": None})
    assert words.headline(run) == (
        "CacheFL classifies 94.1% of the test images correctly, 27.8 ± 1.6 points above cache at round 0, the best of "
        "the others, with 96 KiB sent in all against nothing. It is 32.9 ± 1.7 points above zero-shot CLIP; "
        "centralized (by 1.4 ± 1.0 points) is better."
    )
    worse = make_run(dataset={"test": 4000}, methods={"cachefl": near(0.30), "closed_form": {"total_bytes": 2**20}})
    assert words.headline(worse) == (
        "CacheFL classifies 30.0% of the test images correctly, 54.7 ± 1.8 points below closed_form, the best of the "
        "others, with 96 KiB sent in all against 1 MiB. It is 31.2 ± 2.1 points below zero-shot CLIP; "
        "centralized (by 65.5 ± 1.6 points), cache at round 0 (by 36.3 ± 2.0 points) and each client alone (by 5.4 ± "
        "2.1 points) are better."
    )


def test_the_headline_says_what_is_within_error(make_run):
    assert words.headline(make_run(methods={"closed_form": {"test_accuracy": 0.93}})) == (
        "CacheFL classifies 94.1% of the test images correctly, within error of closed_form, the best of the others "
        "(+1.1 ± 11.9 points). It is 32.9 ± 16.9 points above zero-shot CLIP; centralized is equal within error."
    )
    run = make_run(methods={"cachefl": near(0.63), "closed_form": None, "centralized": None, "local_only": near(0.2)})
    assert words.headline(run) == (
        "CacheFL classifies 63.0% of the test images correctly, within error of cache at round 0, the best of the "
        "others (-3.3 ± 20.5 points), with 96 KiB sent in all against nothing. It is within error of zero-shot CLIP."
    )


def test_without_the_number_of_test_rows_no_error_is_claimed(make_run):
    run = make_run(dataset={"test": None}, methods={"closed_form": near(0.941), "zero_shot": near(0.93)})
    assert words.headline(run) == (
        "CacheFL classifies 94.1% of the test images correctly, level with closed_form, the best of the others. "
        "It is 1.1 points above zero-shot CLIP; centralized (by 1.4 points) is better."
    )


def test_without_zero_shot_the_headline_and_the_question_do_without(make_run, text_of):
    others = dict.fromkeys(("zero_shot", "closed_form", "centralized", "local_only", "cache_init"))
    assert words.headline(make_run(methods=others)) == "CacheFL classifies 94.1% of the test images correctly."
    run = make_run(methods={"zero_shot": None, "closed_form": None, "centralized": None})
    text = text_of(run)
    assert "How accurate? 94.1%" in text
    assert "How much better" not in text
    assert "zero-shot" not in text
    assert "How much better than zero-shot? +32.9 points" in text_of(make_run())


def test_rows_with_values_of_their_own_are_named(make_run):
    shared = "All rows that train share the settings of the config: none was tuned for itself."
    assert shared in statements.measured(make_run(methods={"centralized": {"rounds": 3}}))
    own = {"rounds": 3, "overrides": {"local.learning_rate": 0.5}}
    told = statements.measured(make_run(methods={"centralized": own}))
    assert shared not in told
    assert any("Values of their own have centralized: local.learning_rate=0.5." in sentence for sentence in told)


def test_a_run_without_rounds_does_not_speak_of_tuning(make_run, text_of):
    run = make_run(rounds=0, methods={**UNTUNED, "local_only": {"rounds": 0}, "centralized": None, "closed_form": None})
    text = text_of(run)
    assert "The cache at round 0 (no round was run) classifies 66.3% of the test images correctly" in text
    assert "Test accuracy is that of the cache at round 0, on 40 rows" in text
    for sentence in (
        "one client would move 8 KiB a round", "No round was run, so nothing travelled.",
        "up and down, to scale (no round was run):",
        "in one round, had one been run:", "No client sent anything: no federated round was run.",
        "CacheFL no round was run", "each client alone no round was run",
    ):  # fmt: skip
        assert sentence in text, sentence
    for sentence in ("the last round", "In the whole run", "tuned at", "A client sends", "The curve over the rounds"):
        assert sentence not in text, sentence
    assert words.headline(run).count("cache at round 0") == 1, "the row of that name is the same cache"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"test_accuracy": None, "diverged": True}, "CacheFL diverged: its training did not stay finite"),
        ({"test_accuracy": None}, "CacheFL: no test accuracy was measured."),
        (None, "CacheFL is not among the methods that this run compares."),
    ],
)
def test_a_run_without_its_accuracy_says_why(make_run, text_of, entry, said):
    text = text_of(make_run(methods={"cachefl": entry}, rounds=-1 if entry is None else None))
    assert said in text
    assert "How accurate? not measured" in text
    assert "Test accuracy is that of" not in text
    assert "in points, against" not in text


def test_a_bank_has_rows_and_no_images(make_run, text_of):
    run = make_run(data={"name": "feature_bank"}, images=False)
    text = text_of(run)
    assert "CacheFL classifies 94.1% of the test rows correctly" in text
    assert "CacheFL is right on 94.1% of the test rows" in text
    assert "What the server has, and what the clients hold This run worked on features, not on images" in text
    assert "This run saw features, not images." in text
    assert "generator" not in text
    assert "test images" not in text


@pytest.mark.parametrize(("left", "right", "rows", "within"), [
    (0.955, 0.941, 40, True), (0.955, 0.941, 4000, False), (1.0, 1.0, 5, True), (1.0, 0.0, 5, False),
    (1.0, 0.8, 5, True), (0.5, 0.5, 0, False), (0.62, 0.66, 450, True), (0.62, 0.70, 450, False),
])  # fmt: skip
def test_error_of_a_difference(left, right, rows, within):
    assert rivals.within_error(left, right, rows) is within
    assert rivals.within_error(right, left, rows) is within


# --- where the server's images come from, and privacy


@pytest.mark.parametrize(
    ("source", "said", "unsaid"),
    [
        ("pocket", "no client gave an image for them", "somebody has to give them"),
        ("diffusers", "no client gave an image for them", "somebody has to give them"),
        ("held_out", "somebody has to give them to the server, and their features go to every client", "from words"),
        ("image_folder", "cannot tell whether they were drawn or are real", "from words"),
        ("", "The features of the cache go to every client.", "from words"),
    ],
)
def test_whose_images_the_cache_is_made_of(make_run, text_of, source, said, unsaid):
    text = text_of(make_run(synthesis={"source": source} if source else {}))
    assert said in text
    assert unsaid not in text
    assert "stay at home" not in text
    assert ("What the generator drew" in text) == (source in ("pocket", "diffusers"))
    assert "A client sends tuned keys and no image" in text


def test_of_a_method_that_tells_nothing_of_privacy_nothing_is_claimed(make_run, text_of):
    text = text_of(make_run(methods={"cachefl": {"privacy": "", "label": "probe", "untrained": ""}}))
    assert "A client sends what it has trained and no image; what that tells of its images was not measured." in text
    assert "keys and no image" not in text
    start = text_of(make_run(methods={"cachefl": {"rounds": 0, "label": "probe", "untrained": ""}}))
    assert "The probe at round 0 (no round was run) classifies" in start


@pytest.mark.parametrize(("source", "rest"), [("pocket", "drawn from words"), ("image_folder", "cannot tell whether")])
def test_real_images_beside_others_are_told_with_their_number(make_run, text_of, source, rest):
    text = text_of(make_run(synthesis={"source": source, "real_images": 3}))
    assert "Of each class's images at the server 3 are real" in text
    assert rest in text
    assert "no client gave an image" not in text


def test_pictures_are_called_by_who_has_them(make_run, text_of):
    from cachefl_jax.report import page

    markup = page.render([make_run(synthesis={"source": "held_out"})])
    assert 'data-kind="server"' in markup
    assert "synthetic" not in markup.split("<main>")[1].split("<h2>Configuration")[0]


def test_centralized_needs_the_data_in_one_place_where_it_is_compared(make_run):
    told = "needs all data in one place"
    assert any(told in sentence for sentence in statements.privacy(make_run()))
    assert not any(told in sentence for sentence in statements.privacy(make_run(methods={"centralized": None})))


@pytest.mark.parametrize(
    ("cache", "clip", "said"),
    [
        ({"keys_per_class": 4}, {}, "The features of these are the cache at round 0, a key each."),
        ({"keys_per_class": 2}, {}, "The features of the first 2 of each class are the cache at round 0"),
        ({"keys_per_class": 16}, {}, "The features of these and of others are the cache at round 0"),
        ({"keys_per_class": 4}, {"key_views": 10}, "each key the mean of 10 random crops."),
    ],
)
def test_which_images_became_keys(make_run, cache, clip, said):
    assert said in captions.pictures(make_run(cache=cache, clip=clip), 3)


def test_by_which_rule_images_became_keys(make_run):
    run = make_run(cache={"keys_per_class": 2}, synthesis={"selection": "margin"})
    said = "The features of the first 2 of each class, chosen by synthesis.selection=margin, are the cache at round 0"
    assert said in captions.pictures(run, 3)
    said = "The features of groups of each class's images, averaged, are the cache at round 0, a key each."
    assert said in captions.pictures(make_run(synthesis={"selection": "means"}), 3)


def test_changed_images_are_told_as_such(make_run):
    assert "as each client's images were changed (blur)" in captions.pictures(make_run(partition={"change": "blur"}), 3)
    assert "changed" not in captions.pictures(make_run(partition={"change": "none"}), 3)
    assert "Shown: 2 of 3 classes." in captions.pictures(make_run(), 2)
    assert "Shown" not in captions.pictures(make_run(), 3)


def test_clients_without_images_of_a_class_show_none(make_run):
    run = make_run()
    assert "Clients: their own" in captions.pictures(run, 3)
    none = run._replace(real=run.real[:, :0])
    assert "Clients: none are shown, since they hold none of some class." in captions.pictures(none, 3)


def test_images_that_are_gone_are_not_taken_for_features(make_run):
    assert captions.no_pictures(make_run(images=False)) == "The run's folder holds no images to show."


# --- what was measured


def test_validation_rows_chose_nothing_in_a_run(make_run, text_of):
    text = text_of(make_run())
    assert "The 20 validation rows were measured in the same way. This run chose nothing by them" in text
    assert "are chosen on" not in text
    for changes in ({"dataset": {"validation": 0}}, {"methods": {"cachefl": {"validation_accuracy": None}}}):
        assert not any("validation" in sentence for sentence in statements.measured(make_run(**changes)))


@pytest.mark.parametrize(("accuracy", "rows", "told"), [
    (0.941, 40, "3.7 points, from 40 test rows"), (1.0, 40, None), (0.0, 40, None), (0.9, None, None), (None, 40, None),
])  # fmt: skip
def test_the_standard_error_is_told_where_there_is_one(make_run, accuracy, rows, told):
    run = make_run(dataset={"test": rows}, methods={"cachefl": near(accuracy)})
    assert words.doubt(run) == told
    assert any("standard error" in sentence for sentence in statements.error(run)) == (told is not None)


def test_error_is_explained_where_it_is_used(make_run):
    alone = make_run(methods=dict.fromkeys(("zero_shot", "cache_init", "local_only", "centralized", "closed_form")))
    assert not any("Within error" in sentence for sentence in statements.error(alone))
    assert any("Within error" in sentence for sentence in statements.error(make_run()))


def test_costs_are_told_where_they_are_known(make_run):
    assert next(statements.costs(make_run())) == "Bytes and operations are counted, not measured."
    bare = {"uplink_bytes_per_client_round": None, "client_flops_per_round": None, "seconds_per_round": None}
    assert list(statements.costs(make_run(methods={"cachefl": bare}))) == []
    assert any("XLA's count of one training step" in sentence for sentence in statements.costs(make_run()))


def test_the_arithmetic_is_told_where_the_run_tells_it(make_run):
    run = make_run()
    told = run._replace(summary=run.summary | {"precision": {"matmul": "highest", "dtype": "float32"}})
    assert any("one arithmetic: float32" in sentence for sentence in statements.measured(told))
    assert not any("arithmetic" in sentence for sentence in statements.measured(run))


def test_notes_of_the_run_are_passed_on(make_run):
    assert "Fonts, not pens." in statements.measured(make_run(notes=["Fonts, not pens."]))


# --- tables, curve, partition, bytes


def test_the_legend_explains_what_is_there(make_run):
    from cachefl_jax.report.page import legend

    assert "A dash stands" in legend([make_run()])
    assert "A range" in legend([make_run()])
    only = {name: None for name in ("zero_shot", "cache_init", "local_only", "centralized", "closed_form")}
    assert legend([make_run(methods=only)]) == ""


def test_the_caption_names_the_lines_that_are_drawn(make_run):
    assert curve.caption([make_run()]) == (
        "Thick: test accuracy. Thin: validation accuracy. Dashed: the methods to compare with. "
        "Round 0 is before any training."
    )
    run = make_run()
    lines = [row | {"validation_accuracy": None} for row in run.rounds]
    only = dict.fromkeys(("zero_shot", "cache_init", "local_only", "centralized", "closed_form"))
    run = make_run(methods=only)._replace(rounds=lines[2:])
    assert curve.caption([run]) == "Thick: test accuracy."
    unseen = run._replace(rounds=[row | {"test_accuracy": None} for row in lines])
    assert curve.caption([unseen]) == "No round was evaluated."
    assert curve.caption([run._replace(rounds=[])]) == "No federated round was run."


def test_one_client_differs_from_nobody(make_run):
    run = make_run()
    alone = run._replace(cells=run.cells._replace(client=np.zeros_like(run.cells.client), clients=1))
    assert "differs from line to line" in captions.holdings(run, False)
    assert "differs from line to line" not in captions.holdings(alone, False)
    assert "fullest of its cells" in captions.holdings(run, True)
    empty = run._replace(
        cells=run.cells._replace(client=np.zeros(0, int), label=np.zeros(0, int), count=np.zeros(0, int))
    )
    assert captions.terms(empty) == ""
    assert "3 means all of them alike" in captions.terms(run)


def test_a_cache_heavier_than_the_model_is_not_called_light(make_run, text_of):
    run = make_run()
    for size, said in ((100, "40.96 times more"), (4096, "as much"), (1_000_000, "244 times less")):
        model = run._replace(summary=run.summary | {"whole_model": {"name": "tiny", "bytes": size}})
        assert traffic.saving(model) == said.replace("40.96", "41.0")
        assert "light beside" not in text_of(model)
    assert "as much as sending the whole tiny up and down" in text_of(
        run._replace(summary=run.summary | {"whole_model": {"name": "tiny", "bytes": 4096}})
    )


def test_the_bytes_of_the_best_rival_stand_beside_the_runs(make_run, text_of):
    for total, said in ((1024, "1 KiB in all: 96.0 times less."), (98304, "96 KiB in all: as much."),
                        (2**20, "1 MiB in all: 10.7 times more."), (0, "nothing in all.")):  # fmt: skip
        run = make_run(methods={"closed_form": {"test_accuracy": 0.847, "total_bytes": total}})
        assert f"Closed_form, the most accurate of the others, sends {said}" in text_of(run)
    assert traffic.against_rival(make_run(methods={"closed_form": {"total_bytes": None}})) is None
    assert traffic.against_rival(make_run(methods={"cachefl": {"total_bytes": None}})) is None


def test_bytes_of_a_whole_run_need_every_round(make_run):
    run = make_run()
    assert traffic.traffic(run)[0].all[1] == "49,152 bytes"
    assert traffic.traffic(run._replace(rounds=run.rounds[:1] + run.rounds[2:]))[0].all is None
    assert captions.travelled(run).count("whole model") == 1
    assert "whole model" not in captions.travelled(run._replace(summary=run.summary | {"whole_model": None}))


def test_seconds_are_of_the_clients_of_a_round(make_run, text_of):
    assert "The simulator took 42.1 ms a round for all clients of the round (4 clients)" in text_of(make_run())
    bare = {"seconds_per_round": None}
    assert "The simulator took" not in text_of(make_run(methods={"cachefl": bare}))
