"""Numbers, ranges, durations and tables as text for people."""

from __future__ import annotations

import math

import pytest

from epochcast.output.text import clock, listed, percent, range_text, significant, table_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (-12.345, "-12.3"),
        (0.5, "0.500"),
        (123456.0, "123,000"),
        (1234567.0, "1,230,000"),
        (0.000123456, "0.000123"),
        (0.0000123456, "1.23e-05"),
        (1e15, "1.00e+15"),
        (9.994, "9.99"),
        (9.996, "10.0"),  # not 10.00: that would be four figures
        (999.6, "1,000"),
        (0.09996, "0.100"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_for_people_have_three_significant_figures(value, text):
    assert significant(value) == text


@pytest.mark.parametrize("digits", [1, 2, 3, 6])
@pytest.mark.parametrize("exponent", range(-3, 12))
def test_a_number_for_people_is_within_half_a_unit_of_its_last_figure(digits, exponent):
    for mantissa in (1.0, 1.2345678, 4.4444444, 9.4999999, 9.9999999):
        value = mantissa * 10.0**exponent
        text = significant(value, digits)
        # half a unit of the last figure, at most 0.5 / 10^(digits - 1) of the value; a little more for binary rounding
        assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5001 * 10.0 ** (1 - digits))
        figures = text.replace(",", "").replace(".", "").lstrip("0")
        assert len(figures) == max(digits, len(text.replace(",", "").partition(".")[0].lstrip("0")))


def test_shares_are_printed_as_per_cent():
    assert percent(0.1234) == "12.3 %"
    assert percent(0.0) == "0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (750, "12 min 30 s"),
        (3599.7, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (90_000, "25 h 00 min"),
        (-1, "0 s"),
    ],
)
def test_durations_for_people_have_two_units(seconds, text):
    assert clock(seconds) == text


def test_a_table_lines_numbers_up_to_the_right_and_words_to_the_left():
    text = table_text(["name", "seconds"], [["a", 1.0], ["longer", 1234.5], ["none", None]])
    assert text.splitlines() == ["name    seconds", "a          1.00", "longer    1,230", "none          -"]


def test_a_table_without_rows_is_its_header():
    assert table_text(["name", "seconds"], []) == "name  seconds"


def test_a_range_is_told_by_its_ends_and_unknown_where_one_is():
    assert range_text(0.04583, 1234.5) == "0.0458 to 1,230"
    assert range_text(0.0, 0.0) == "0 to 0"
    assert range_text(None, None) == range_text(1.0, None) == "unknown"
    assert range_text(None, None, "range unknown") == "range unknown"


def test_words_are_listed_with_a_word_before_the_last():
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b"], "or") == "a or b"
    assert (listed(["a"]), listed([])) == ("a", "")
