"""A place is found by its exact code or name, and says whose its values are, of when, and how far sources differ."""

from __future__ import annotations

import re

import pytest

from epochcast.facts import carbon_intensities, electricity_prices
from epochcast.interval import Interval
from epochcast.places import Sourced, find_place, world


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("DE", "DE"),
        ("de", "DE"),
        ("DEU", "DE"),
        ("Germany", "DE"),
        (" united states ", "US"),
        ("UK", "GB"),
        ("Turkiye", "TR"),
        ("Türkiye", "TR"),
        ("SE3", "SE3"),
        ("camx", "CAMX"),
        ("gcp:us-central1", "gcp:us-central1"),
        ("US-CA", "US-CA"),
        ("California", "US-CA"),
        ("FI", "FI"),
        ("NO", "NO"),
        ("IN", "IN"),
        ("world", "WORLD"),
    ],
)
def test_a_code_or_name_finds_its_place(text, code):
    assert find_place(text).code == code


def test_every_code_and_every_country_finds_itself():
    for row in (*carbon_intensities(), *electricity_prices()):
        assert find_place(row.code).code == row.code
        if row.kind == "country":
            assert find_place(row.iso3).code == row.code
            assert find_place(row.name).code == row.code


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("Germny", "DE (Germany)"),
        ("us-east1", "gcp:us-east1 (Moncks Corner, United States)"),
        ("SE9", "SE3 (SE3, Sweden)"),
        ("", "WORLD (World)"),
        ("Frankfurt", "no region 'Frankfurt'"),
        ("D", "epochcast facts carbon"),
    ],
)
def test_an_unknown_place_lists_the_nearest(text, nearest):
    with pytest.raises(ValueError, match=re.escape(nearest)):
        find_place(text)


def test_a_country_has_the_newest_value_and_the_range_of_all_its_sources():
    carbon = find_place("FR").carbon
    assert carbon.value == Interval(44.179085, 42.0, 56.039)
    assert (carbon.year, carbon.year_words) == ("2024", "2024")
    assert carbon.source.startswith("carbontracker (github.com/saintslab/carbontracker)")
    assert carbon.notes == "range over carbontracker 2024, codecarbon 2023, green-love 2023-2025"


def test_a_range_over_several_tariffs_says_so():
    electricity = find_place("DE").electricity
    assert electricity.value == Interval(0.404, 0.327, 0.404)
    assert electricity.year_words == "2025 Q4"
    assert "tariff: residential average (the range also spans tariff not stated)" in electricity.notes
    assert "MLCost year unknown" in electricity.notes


def test_with_one_source_the_range_is_unknown_and_so_may_be_the_year():
    carbon = find_place("gcp:us-central1").carbon
    assert carbon.value == Interval(430.0, None, None)
    assert (carbon.year, carbon.year_words) == (None, "year unknown")


def test_a_zone_without_a_value_of_its_own_uses_its_country_s_and_says_so():
    california, us = find_place("US-CA"), find_place("US")
    assert california.carbon.value == us.carbon.value
    assert california.carbon.notes.startswith("no figure of its own: that of United States; ")
    assert california.electricity.value == Interval(0.221)
    zone = find_place("SE3")
    assert zone.carbon.value == Interval(18.0)
    assert "no figure" not in zone.carbon.notes
    assert zone.electricity.value == find_place("SE").electricity.value
    assert zone.electricity.notes.startswith("no figure of its own: that of Sweden; ")


def test_a_region_without_a_country_uses_the_world_s_carbon_and_says_so():
    europe = find_place("EU")
    assert europe.carbon.value == world().carbon.value
    assert europe.carbon.notes.startswith("no figure of its own: that of World; ")


def test_a_zone_that_is_the_whole_country_is_one_more_source_of_it():
    """Finland is one zone of the Nordic grid."""
    finland = find_place("FI")
    assert finland.name == "Finland"
    assert finland.carbon.value.value == 72.2488
    assert finland.carbon.notes.endswith("codecarbon 2025")


def test_a_price_that_nobody_knows_is_unknown():
    assert find_place("Georgia").electricity is None


def test_the_world_is_the_newest_average():
    assert world().carbon.value == Interval(445.0, 445.0, 494.0)
    assert world().electricity.value == Interval(0.167, 0.12, 0.167)


def test_every_place_has_a_value_within_its_range_and_a_source():
    codes = {row.code for row in (*carbon_intensities(), *electricity_prices())}
    assert len(codes) > 280
    for code in codes:
        place = find_place(code)
        assert place.name
        for sourced in (place.carbon, place.electricity):
            if sourced is None:
                continue
            assert isinstance(sourced, Sourced)
            assert sourced.source
            low, high = sourced.value.low, sourced.value.high
            assert (low is None) == (high is None) == ("range over" not in sourced.notes)
            assert low is None or low <= sourced.value.value <= high
