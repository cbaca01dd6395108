"""The written-out texts of the data sets: as many classes as the data has, no two alike, in the order of the labels."""

import json
import re
from importlib.resources import files

import pytest

from cachefl_jax.templates import check_templates, fill

CLASSES = {
    "imagenet": 1000,
    "caltech101": 100,
    "dtd": 47,
    "eurosat": 10,
    "fgvc_aircraft": 100,
    "food101": 101,
    "oxford_flowers": 102,
    "oxford_pets": 37,
    "stanford_cars": 196,
    "sun397": 397,
    "ucf101": 101,
    "cifar10": 10,
    "cifar100": 100,
    "fashion_mnist": 10,
    "mnist": 10,
}
KEYS = "title citation hub hub_config splits image_column label_column class_names folder_names templates notes".split()
FOLDER = files("cachefl_jax.data") / "suite"


def read(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def names_of(texts: dict) -> list[set[str]]:
    """All that a class may be called, by letters and digits alone: what a reader can match labels by."""
    pairs = zip(texts["class_names"], texts["folder_names"] or texts["class_names"], strict=True)
    return [{re.sub("[^a-z0-9]", "", name.lower()) for name in pair} for pair in pairs]


every_set = pytest.mark.parametrize("name", CLASSES)


def test_there_is_a_file_for_each_set_and_no_other():
    assert {entry.name for entry in FOLDER.iterdir()} == {f"{name}.json" for name in CLASSES}


@every_set
def test_a_file_has_the_fields_of_the_schema_in_order(name):
    texts = read(name)
    assert [key for key in texts if key != "left_out"] == KEYS
    assert list(texts["splits"]) == ["train", "validation", "test"]
    assert texts["splits"]["validation"] is None or texts["splits"]["validation"]
    for field in ("title", "citation", "image_column", "label_column", "notes"):
        assert isinstance(texts[field], str)
        assert texts[field], field
    for split in ("train", "test"):
        assert isinstance(texts["splits"][split], str)
        assert texts["splits"][split], split
    assert texts["hub_config"] == ""
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", texts["hub"]) or (name == "ucf101" and texts["hub"] == "")


@every_set
def test_no_split_serves_twice(name):
    splits = [split for split in read(name)["splits"].values() if split is not None]
    assert len(splits) == len(set(splits))


@every_set
def test_every_class_has_one_name_and_one_folder(name):
    texts = read(name)
    assert len(texts["class_names"]) == CLASSES[name]
    if texts["folder_names"] is not None:
        assert len(texts["folder_names"]) == CLASSES[name]
        assert texts["folder_names"] != texts["class_names"]  # null says that


@every_set
def test_no_name_of_a_class_is_also_another_s(name):
    """Whatever the case, and with blanks, hyphens, underscores and slashes folded: neither its name nor its folder."""
    calls = names_of(read(name))
    assert all(all(call) for call in calls)
    assert sum(map(len, calls)) == len(set().union(*calls))


@every_set
def test_names_read_as_plain_text(name):
    texts = read(name)
    for class_name in texts["class_names"]:
        assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9 '/.-]*[A-Za-z0-9])?", class_name), class_name
        assert "  " not in class_name
    prose = [texts["title"], texts["citation"], texts["notes"]]
    for text in [*(texts["folder_names"] or []), *texts["templates"], *prose]:
        assert text.isascii()
        assert text.isprintable()
        assert text == text.strip()


@every_set
def test_templates_take_one_class_name_each(name):
    texts = read(name)
    check_templates("templates", texts["templates"])
    assert texts["templates"]
    assert len(texts["templates"]) == len(set(texts["templates"]))
    for template in texts["templates"]:
        assert fill(template, texts["class_names"][0]) == template.replace("{}", texts["class_names"][0])


@pytest.mark.parametrize(
    ("name", "templates"),
    [
        ("caltech101", ["a photo of a {}."]),
        ("dtd", ["{} texture."]),
        ("eurosat", ["a centered satellite photo of {}."]),
        ("fgvc_aircraft", ["a photo of a {}, a type of aircraft."]),
        ("food101", ["a photo of {}, a type of food."]),
        ("oxford_flowers", ["a photo of a {}, a type of flower."]),
        ("oxford_pets", ["a photo of a {}, a type of pet."]),
        ("stanford_cars", ["a photo of a {}."]),
        ("sun397", ["a photo of a {}."]),
        ("ucf101", ["a photo of a person doing {}."]),
    ],
)
def test_the_paper_s_sets_are_prompted_as_tip_adapter_prompts_them(name, templates):
    assert read(name)["templates"] == templates


def test_imagenet_has_the_ensemble_of_seven():
    templates = read("imagenet")["templates"]
    assert len(templates) == 7
    assert "itap of a {}." in templates


@pytest.mark.parametrize(
    ("name", "label", "class_name"),
    [
        ("imagenet", 0, "tench"),
        ("imagenet", 1, "goldfish"),
        ("imagenet", 134, "crane bird"),
        ("imagenet", 207, "golden retriever"),
        ("imagenet", 264, "Cardigan Welsh corgi"),
        ("imagenet", 281, "tabby cat"),
        ("imagenet", 340, "zebra"),
        ("imagenet", 388, "giant panda"),
        ("imagenet", 474, "cardigan sweater"),
        ("imagenet", 517, "construction crane"),
        ("imagenet", 817, "sports car"),
        ("imagenet", 954, "banana"),
        ("imagenet", 963, "pizza"),
        ("imagenet", 999, "toilet tissue"),
        ("caltech101", 0, "accordion"),
        ("caltech101", 99, "yin yang"),
        ("eurosat", 0, "annual crop land"),
        ("eurosat", 9, "sea or lake"),
        ("fgvc_aircraft", 0, "707-320"),
        ("fgvc_aircraft", 33, "A380"),
        ("fgvc_aircraft", 99, "Yak-42"),
        ("food101", 16, "cheesecake"),
        ("food101", 17, "cheese plate"),
        ("food101", 100, "waffles"),
        ("oxford_flowers", 0, "pink primrose"),
        ("oxford_flowers", 1, "hard-leaved pocket orchid"),
        ("oxford_flowers", 73, "rose"),
        ("oxford_flowers", 101, "blackberry lily"),
        ("oxford_pets", 0, "Abyssinian"),
        ("oxford_pets", 1, "American bulldog"),
        ("oxford_pets", 36, "Yorkshire terrier"),
        ("stanford_cars", 0, "2000 AM General Hummer SUV"),
        ("stanford_cars", 1, "2012 Acura RL Sedan"),
        ("stanford_cars", 195, "2012 smart fortwo Convertible"),
        ("sun397", 0, "abbey"),
        ("sun397", 8, "outdoor apartment building"),
        ("sun397", 206, "jail cell"),
        ("sun397", 396, "youth hostel"),
        ("ucf101", 0, "apply eye makeup"),
        ("ucf101", 100, "yo-yo"),
        ("cifar10", 3, "cat"),
        ("cifar10", 9, "truck"),
        ("cifar100", 26, "crab"),
        ("cifar100", 99, "worm"),
        ("fashion_mnist", 0, "T-shirt or top"),
        ("fashion_mnist", 9, "ankle boot"),
    ],
)
def test_a_label_number_is_the_place_of_its_name(name, label, class_name):
    assert read(name)["class_names"][label] == class_name


def test_imagenet_s_folders_are_wordnet_ids_in_ascending_order():
    folders = read("imagenet")["folder_names"]
    assert all(re.fullmatch(r"n\d{8}", folder) for folder in folders)
    assert folders == sorted(set(folders))
    assert (folders[0], folders[207], folders[999]) == ("n01440764", "n02099601", "n15075141")


@pytest.mark.parametrize("name", ["dtd", "eurosat", "oxford_pets", "cifar10", "cifar100"])
def test_sets_ordered_by_plain_sorting_are_sorted(name):
    texts = read(name)
    folders = texts["folder_names"] or texts["class_names"]
    assert folders == sorted(folders)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("food101", lambda folder: folder.replace("_", "")),
        ("sun397", lambda folder: folder.replace("/", "_")),
        ("caltech101", str.lower),
        ("ucf101", str.lower),
    ],
)
def test_sets_ordered_by_another_sort_keep_to_it(name, key):
    folders = read(name)["folder_names"]
    assert folders == sorted(folders, key=key)
    assert folders != sorted(folders)


def test_the_aircraft_are_in_the_order_of_their_official_list():
    """Which is sorted by character code: digits, then capitals, then small letters."""
    aircraft = read("fgvc_aircraft")["class_names"]
    assert aircraft == sorted(aircraft)


def test_cars_carry_their_year_in_front_and_their_official_name_behind():
    texts = read("stanford_cars")
    for class_name, official in zip(texts["class_names"], texts["folder_names"], strict=True):
        year, model = class_name.split(" ", 1)
        assert re.fullmatch(r"(19|20)\d\d", year)
        assert official.replace(" Conv.", "") == f"{model} {year}"


def test_caltech_leaves_out_the_background_and_the_easy_faces():
    folders = read("caltech101")["folder_names"]
    assert "Faces" in folders
    assert not {"background_google", "faces_easy"} & {folder.lower() for folder in folders}


def test_a_scene_s_folder_has_no_leading_letter():
    assert all(len(folder.split("/")[0]) > 1 for folder in read("sun397")["folder_names"])
