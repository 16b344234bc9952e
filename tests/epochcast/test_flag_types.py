"""Values of flags: numbers, durations, sizes and lists."""

from __future__ import annotations

import argparse
import re

import pytest

from epochcast.flag_types import (
    duration_sec,
    fraction,
    int_list,
    not_negative_float,
    not_negative_int,
    positive_float,
    positive_int,
)

REFUSED = argparse.ArgumentTypeError


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (positive_int, "1", 1),
        (positive_int, "50000", 50_000),
        (not_negative_int, "0", 0),
        (not_negative_int, "7", 7),
        (positive_float, "1e-3", 0.001),
        (not_negative_float, "0", 0.0),
        (not_negative_float, "2.5", 2.5),
        (fraction, "0", 0.0),
        (fraction, "0.6", 0.6),
        (fraction, "1", 1.0),
    ],
)
def test_a_number_is_taken(kind, text, value):
    assert kind(text) == value
    assert type(kind(text)) is type(value)


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        (positive_int, ["0", "-1", "2.0", "3e2", "", "many"], "a whole number of at least 1"),
        (not_negative_int, ["-1", "0.5", "", "none"], "a whole number of at least 0"),
        (positive_float, ["0", "-0", "-0.1", "nan", "inf", "", "fast"], "number"),
        (not_negative_float, ["-0.1", "nan", "inf", "-inf", "", "fast"], "number of at least 0"),
        (fraction, ["1.01", "60", "-0.1", "nan", "60%"], "number"),
    ],
)
def test_what_is_no_such_number_is_refused_by_what_was_expected_and_found(kind, texts, expected):
    for text in texts:
        with pytest.raises(REFUSED) as caught:
            kind(text)
        assert expected in str(caught.value)
        assert text.lstrip("-") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5", 0.5),
        ("15m", 900),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h30m15s", 5415),
        ("1h5s", 3605),
        ("1d12h", 129_600),
        ("1w", 604_800),
        ("2m30s", 150),
        (" 1h ", 3600),
    ],
)
def test_a_duration_is_taken_in_hours_minutes_and_seconds(text, seconds):
    assert duration_sec(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "1y",
        "30m1h",
        "1h 30m",
        "-5",
        "-1h",
        "1e3",
        "1:30",
        "nan",
        "inf",
        "0",
        "0s",
        "0h0m",
        "1h30",
        "5m30",
    ],
)
def test_what_is_no_duration_or_could_mean_two_is_refused(text):
    with pytest.raises(REFUSED):
        duration_sec(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("64", [64]),
        ("64,128", [64, 128]),
        ("128, 64", [128, 64]),  # in the order given
        ("64:2048:x2", [64, 128, 256, 512, 1024, 2048]),
        ("64:2000:x2", [64, 128, 256, 512, 1024]),
        ("1:81:x3", [1, 3, 9, 27, 81]),
        ("2:5", [2, 3, 4, 5]),
        ("2:9:3", [2, 5, 8]),
        ("5:5", [5]),
        ("2:3,16,64:256:x2", [2, 3, 16, 64, 128, 256]),
        ("2:4,3:5,4", [2, 3, 4, 5]),  # each once
    ],
)
def test_a_list_is_values_ranges_and_doublings(text, values):
    assert int_list(text) == values


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5:2", "the range '5:2' is empty: 5 is above 2"),
        ("64,512:128:x2", "the range '512:128:x2' is empty"),
        ("0", "at least 1, got 0"),
        ("-3", "at least 1, got -3"),
        ("0:4", "at least 1, got 0"),
        ("64,,128", "got ''"),
        ("64,", "got ''"),
        ("", "got ''"),
        (":5", "got ''"),
        ("5:", "got ''"),
        ("2.5", "got '2.5'"),
        ("a:b", "got 'a'"),
        ("2:5:0", "LOW:HIGH:STEP"),
        ("2:5:00", "LOW:HIGH:STEP"),
        ("2:5:x0", "LOW:HIGH:xFACTOR"),
        ("2:5:x1", "LOW:HIGH:xFACTOR"),
        ("2:5:x01", "LOW:HIGH:xFACTOR"),
        ("2:5:x", "LOW:HIGH:xFACTOR"),
        ("2:5:-1", "LOW:HIGH:STEP"),
        ("2:5:x2:1", "LOW:HIGH:STEP"),
        ("1:1000000000000", "more than 10000 values"),
    ],
)
def test_what_is_no_list_is_refused_at_once_with_the_part_that_is_wrong(text, complaint):
    with pytest.raises(REFUSED, match=re.escape(complaint)):
        int_list(text)
