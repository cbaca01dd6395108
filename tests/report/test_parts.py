"""The parts below the page: table, units, labels that keep apart, colours."""

import itertools

import numpy as np
import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.report import method_table, palette, units
from cachefl_jax.report.curve import spread

SUMMARY = {
    "methods": {
        "later": {"test_accuracy": 0.9},
        "centralized": {"test_accuracy": 0.95},
        "cachefl": {"test_accuracy": 0.94, "uplink_bytes_per_client_round": 81920, "total_bytes": 2 * 81920 * 20},
        "zero_shot": {"test_accuracy": 0.6, "total_bytes": 0},
    }
}


def test_table_in_order_and_aligned():
    lines = method_table(SUMMARY).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["zero-shot CLIP", "CacheFL", "later", "centralized"]
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == [
        "CacheFL", "94.0%", "+34.0", "80 KiB", "3.12 MiB", "-", "-",
    ]  # fmt: skip
    assert method_table(SUMMARY).isascii()


def test_table_refuses_what_is_no_number():
    with pytest.raises(UsageError, match="test_accuracy: got True"):
        method_table({"methods": {"cachefl": {"test_accuracy": True}}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.readable_bytes(0), "0"),
        (units.readable_bytes(1), "1 bytes"),
        (units.readable_bytes(1023), "1,023 bytes"),
        (units.readable_bytes(1536), "1.50 KiB"),
        (units.readable_bytes(131072000), "125 MiB"),
        (units.readable_bytes(1024**6), "1,024 PiB"),
        (units.exact_bytes(131072000), "131,072,000 bytes"),
        (units.readable_flops(3.14159e9), "3.14 GFLOP"),
        (units.readable_seconds(0.00042), "0.42 ms"),
        (units.readable_seconds(61.27), "61.3 s"),
        (units.percent(0.9405), "94.0%"),
        (units.percent(None), "-"),
        (units.points(-0.00001), "+0.0"),
        (units.points(-0.015), "-1.5"),
        (units.three_digits(9.999), "10.0"),
    ],
)
def test_units(text, expected):
    assert text == expected


def test_labels_keep_apart_and_stay_inside():
    places = np.array([5.0, 96, 97, 98, 50, 96])
    moved = spread(places, 10, 0, 100)
    assert np.diff(np.sort(moved)).min() >= 10 - 1e-9
    assert moved.min() >= 0
    assert moved.max() <= 100
    np.testing.assert_allclose(moved[[0, 4]], [5, 50])
    np.testing.assert_allclose(spread(np.array([40.0, 40.0]), 10, 0, 100), [35, 45])


def luminance(colour: str) -> float:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(("name", "theme"), [*itertools.product(("ink", "muted", *palette.SERIES_NAMES), (0, 1))])
def test_text_stands_out_from_its_paper(name, theme):
    dark, light = sorted((luminance(palette.THEME[name][theme]), luminance(palette.THEME["paper"][theme])))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_colours_of_the_theme_can_be_told_from_each_other():
    assert len({light for light, _ in palette.THEME.values()}) == len(palette.THEME)
