"""Descriptions of a class: what of an answer becomes a prompt, and one line where too little of it does."""

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import grammar
from cachefl_jax.synthesis.descriptions import LINES, TRIES, Found, Rules, cleaned, describe, lines_of

NAMES = ("cat", "fire truck", "truck", "sea_hen", "C++")


def rules(fits=lambda text: True, features=None, names=NAMES) -> Rules:
    return Rules(names, fits, features)


def fault(text: str, name: str = "cat", **changes) -> str:
    return Found(name, rules(**changes)).fault(text)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1. A cat at night.", "A cat at night."),
        ("  12) a cat", "a cat"),
        ("(3) 'a cat'", "a cat"),
        ("- \u201ca cat \u00a0 \t sleeps\u201d", "a cat sleeps"),
        ("* **Beach:** a cat", "Beach: a cat"),
        ("\u2022 a 3.5 kg cat", "a 3.5 kg cat"),
        ("3 cats", "3 cats"),
        ("cafe\u0301 cat", "caf\u00e9 cat"),
    ],
)
def test_numbers_quotes_and_emphasis_are_taken_off(line, text):
    assert cleaned(line) == text


def test_of_a_numbered_list_only_the_list_counts():
    answer = "Sure, here is a cat for you:\n\n1. a cat\n2. a black cat\n\nDo you want another cat"
    assert lines_of(answer) == ["1. a cat", "2. a black cat"]
    assert lines_of("a cat\n\n  \na black cat") == ["a cat", "a black cat"]
    assert lines_of(" \n\t\n") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a cat", "cat"),
        ("Two CATS.", "cat"),
        ("a cat's paw", "cat"),
        ("a fire truck", "fire truck"),
        ("Fire-trucks", "fire truck"),
        ("a truck", "truck"),
        ("one sea hen", "sea_hen"),
        ("code in c++ on a screen", "C++"),
        ("a cat of the category of felines", "cat"),
        ("Icelandic cat here, surely asleep", "cat"),
    ],
)
def test_a_text_that_names_its_class_alone_is_taken(text, name):
    assert fault(text, name) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a kitten", "without the class's name"),
        ("a category", "without the class's name"),
        ("eine Katze auf dem Dach", "without the class's name"),
        ("\u4e00\u53ea\u732b", "without the class's name"),
        ("a cat on a truck", "with another class's name"),
        ("cats and sea hens", "with another class's name"),
        ("<b>a cat</b>", "with markup"),
        ("a cat <script>alert(1)</script>", "with markup"),
        ("a [cat](http://x)", "with markup"),
        ("a cat, see www.x.org", "with markup"),
        ("a cat &lt;", "with markup"),
        ("a `cat`", "with markup"),
        ("a cat {{7*7}}", "with markup"),
        ("a cat\x1b[31m", "with control characters"),
        ("a c\u200bat cat", "with control characters"),
        ("a \u202ecat", "with control characters"),
        ("a \ud800cat", "with control characters"),
        ("Here are some cats:", "that describe nothing"),
        ("Do you want a cat?", "that describe nothing"),
        ("I'm sorry, I cannot draw a cat.", "that describe nothing"),
        ("Here are eight cats.", "that describe nothing"),
        ("As an AI I know no cat.", "that describe nothing"),
        ("a cat" + " very" * 100 + " old", "too long for the text tower or the generator"),
        ("", "without the class's name"),
    ],
)
def test_what_is_no_prompt_is_told(text, told):
    assert fault(text) == told


def test_a_fire_truck_is_no_truck():
    assert fault("a fire truck at dusk", "truck") == "without the class's name"
    assert fault("a truck at dusk", "fire truck") == "without the class's name"


def test_names_of_scripts_without_spaces_count_wherever_they_stand():
    names = ("\u732b", "\u72ac")  # cat, dog
    assert fault("\u5c4b\u9876\u4e0a\u7684\u732b", "\u732b", names=names) == ""
    assert fault("\u732b\u548c\u72ac", "\u732b", names=names) == "with another class's name"


def test_what_does_not_fit_is_refused():
    assert fault("a black cat", fits=lambda text: len(text) < 8) == "too long for the text tower or the generator"


def answering(*answers: str):
    """A model that gives these answers in turn, the last one ever after, and notes what it was asked."""
    asked = []

    def ask(name, count, seed):
        asked.append((name, count, seed))
        return [answers[min(len(asked) - 1, len(answers) - 1)]] * count

    return ask, asked


COLOURS = ["red", "blue", "green", "grey", "black", "white", "brown", "pink", "yellow", "old"]


def test_it_is_asked_until_there_are_enough_and_repeats_do_not_count():
    first, second = ("\n".join(f"{place}. a {word} cat" for place, word in enumerate(COLOURS[:n])) for n in (6, 10))
    ask, asked = answering(first + "\n7. A  RED, cat!\n8. a dog", second)
    found = describe(ask, "cat", rules(), 9, seed=3)
    assert found.prompts == tuple(f"a {word} cat" for word in COLOURS[:9])
    # Two answers of 8 lines at first, as 9 are wanted; then one.
    assert [count for _, count, _ in asked] == [2, 1]
    assert found.refused == {"said before": 1 + 7 + 6, "without the class's name": 2}


def test_seeds_differ_from_answer_to_answer_and_class_to_class_and_come_again():
    ask, asked = answering("a cat\na truck\na red cat\na red truck")
    for name in ("cat", "cat", "truck"):
        describe(ask, name, rules(), 4, seed=1)
    describe(ask, "cat", rules(), 4, seed=2)
    seeds = [seed for _, _, seed in asked]
    size = len(seeds) // 4
    assert seeds[:size] == seeds[size : 2 * size]
    assert len(set(seeds)) == 3 * size
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_half_of_what_was_asked_for_will_do():
    ask, asked = answering("a cat\na red cat")
    assert describe(ask, "cat", rules(), 4, 0).prompts == ("a cat", "a red cat")
    assert sum(count for _, count, _ in asked) == TRIES
    with pytest.raises(UsageError, match=r"got 2 of 5 descriptions of cat in 4 answers .*a model that gives 3"):
        describe(ask, "cat", rules(), 5, 0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "4 no text"),
        (" \n \n", "4 no text"),
        ("asdf qwer zxcv\nlorem ipsum", "8 without the class's name"),
        ("eine Katze\n\u0915\u0941\u0924\u094d\u0924\u093e", "8 without the class's name"),
        ("<html><body>cat</body></html>", "4 with markup"),
        ("cat\x00\x1b]0;x\x07", "4 with control characters"),
        ("cat " * 10_000_000, "4 too long"),
        ("a dog\n" * 10_000, "800 without the class's name"),
    ],
)
def test_a_model_that_answers_nonsense_is_refused_in_one_line(answer, told):
    ask, _ = answering(answer)
    pattern = rf"^synthesis\.language_model: got 0 of 8 descriptions of cat in 4 answers \(refused: {told}"
    with pytest.raises(UsageError, match=pattern) as caught:
        describe(ask, "cat", rules(), LINES, 0)
    assert len(str(caught.value)) < 500
    assert "synthesis.prompts_file" in caught.value.mend


def angle(texts):
    """A unit feature [n, 2] by the number in a text, in degrees."""
    angles = np.deg2rad([float(text.split()[-1]) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_prompts_keep_their_distance_in_text_features():
    ask, _ = answering("a cat at 0\na cat at 5\na cat at 9\na cat at 16\na cat at 90\na cat at 86\na cat at 40")
    found = describe(ask, "cat", rules(features=angle), 4, 0)
    # 1 - cos is 0.01 at 8.1 degrees.
    assert found.prompts == ("a cat at 0", "a cat at 9", "a cat at 90", "a cat at 40")
    assert found.refused == {"with a text feature near another's": 3}


@pytest.mark.parametrize("made", [grammar.TYPE, grammar.PHOTOGRAPHS])
def test_the_grammar_describes_every_class_differently(made):
    def ask(name, answers, seed):
        return ["\n".join(grammar.descriptions(made, name, LINES * answers, seed))]

    names = ("eight", "nine", "apple_pie")
    found = {name: describe(ask, name, rules(names=names), 24, 0) for name in names}
    for name, each in found.items():
        assert len(set(each.prompts)) == 24
        assert set(each.refused) <= {"said before"}
        assert all(name.replace("_", " ") in text for text in each.prompts)
        assert not [text for text in each.prompts if "  " in text or " ." in text or "{" in text]
    assert describe(ask, "eight", rules(names=names), 24, 0) == found["eight"]
    assert describe(ask, "eight", rules(names=names), 24, 1).prompts != found["eight"].prompts


def test_the_grammar_says_each_word_equally_often():
    texts = grammar.descriptions(grammar.TYPE, "five", 70, 0)
    words = [text.replace(".", "").split() for text in texts]
    for style in grammar.TYPE.parts["style"][1:]:
        assert sum(style in each for each in words) == 10
    assert sum("digit" in each for each in words) == sum("number" in each for each in words) == 35


def test_an_follows_the_sound():
    texts = grammar.descriptions(grammar.PHOTOGRAPHS, "eagle", 200, 0)
    assert any(" of an eagle" in text for text in texts)
    assert any(" of an old eagle" in text for text in texts)
    assert not [text for text in texts if " a eagle" in text or " a old" in text or " an large" in text]
