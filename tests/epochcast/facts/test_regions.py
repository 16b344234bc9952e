"""A place is found by its exact code or name, and says whose its values are, of when, and how far sources differ."""

from __future__ import annotations

import re
import statistics

import pytest

from epochcast.facts.regions import Sourced, find_region, world
from epochcast.facts.tables import carbon_intensities, electricity_prices, region_groups
from epochcast.interval import Interval

CODES = {row.code for row in carbon_intensities()}


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
        ("Texas", "US-TX"),
        ("ERCOT", "ERCT"),
        ("Texas (ERCOT)", "ERCT"),
        ("New England", "NEWE"),
        ("Stockholm", "SE3"),
        ("Luleå", "SE1"),
        ("lulea", "SE1"),
        ("Frankfurt", "gcp:europe-west3"),
        ("Sao Paulo", "gcp:southamerica-east1"),
        ("Hong Kong", "HK"),
        ("Georgia", "GE"),
        ("FI", "FI"),
        ("NO", "NO"),
        ("IN", "IN"),
        ("world", "WORLD"),
    ],
)
def test_a_code_or_name_finds_its_place(text, code):
    assert find_region(text).code == code


def test_every_code_and_every_country_finds_itself():
    for row in (*carbon_intensities(), *electricity_prices()):
        assert find_region(row.code).code == row.code
        if row.kind == "country":
            assert find_region(row.iso3).code == row.code
            assert find_region(row.name).code == row.code


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("Germny", "DE (Germany)"),
        ("us-east1", "gcp:us-east1 (Moncks Corner, United States)"),
        ("SE9", "SE3 (Stockholm, Sweden)"),
        ("", "WORLD (World)"),
        ("WECC", "no region 'WECC'"),
        ("D", "epochcast facts carbon"),
    ],
)
def test_an_unknown_place_lists_the_nearest(text, nearest):
    with pytest.raises(ValueError, match=re.escape(nearest)):
        find_region(text)


def test_a_country_has_the_newest_value_and_the_range_of_all_its_sources():
    carbon = find_region("FR").carbon
    assert carbon.value == Interval(44.179085, 42.0, 56.039)
    assert (carbon.year, carbon.year_words) == ("2024", "2024")
    assert carbon.source.startswith("carbontracker (github.com/saintslab/carbontracker)")
    assert carbon.notes == "range over carbontracker 2024, codecarbon 2023, green-love 2023-2025"


def test_a_range_over_several_tariffs_says_so():
    electricity = find_region("DE").electricity
    assert electricity.value == Interval(0.404, 0.327, 0.404)
    assert electricity.year_words == "2025 Q4"
    assert "tariff: residential average (the range also spans tariff not stated)" in electricity.notes
    assert "MLCost year unknown" in electricity.notes


def test_with_one_source_the_range_is_unknown_and_so_may_be_the_year():
    carbon = find_region("gcp:us-central1").carbon
    assert carbon.value == Interval(430.0, None, None)
    assert (carbon.year, carbon.year_words) == (None, "year unknown")


def test_a_zone_without_a_value_of_its_own_uses_its_country_s_and_spans_all_that_is_known_there():
    california, us = find_region("US-CA"), find_region("US")
    within = [row.g_co2e_per_kwh for row in carbon_intensities() if row.iso2 == "US"]
    assert california.carbon.value == Interval(us.carbon.value.value, min(within), max(within))
    assert california.carbon.value.high >= 600
    assert california.carbon.value.low <= 100
    assert california.carbon.notes.startswith(
        "no figure of its own: that of United States; CAMX (WECC California) has one; range over carbontracker 2024"
    )
    assert california.electricity.value == Interval(0.221)
    camx = find_region("CAMX")
    assert camx.carbon.value == Interval(210.0)
    assert camx.electricity.value == Interval(us.electricity.value.value, 0.089, 0.221)  # Texas, California


def test_a_zone_of_a_country_without_zones_on_record_has_an_unknown_range():
    zone, sweden = find_region("SE3"), find_region("SE")
    assert zone.carbon.value == Interval(18.0)
    assert "no figure" not in zone.carbon.notes
    assert zone.electricity.value == Interval(sweden.electricity.value.value)
    assert zone.electricity.notes == "no figure of its own: that of Sweden; tariff: residential average"
    frankfurt, germany = find_region("Frankfurt"), find_region("DE")
    assert germany.electricity.value.low is not None
    assert frankfurt.electricity.value == Interval(
        germany.electricity.value.value
    )  # not the range of Germany's sources
    assert "range over" not in frankfurt.electricity.notes


@pytest.mark.parametrize("text", ["EU", "eu27", "European Union", "ASIA", "Europe", "OECD", "G7", "g20"])
def test_a_group_of_countries_has_the_median_and_the_range_of_its_members(text):
    region = find_region(text)
    (group,) = (group for group in region_groups() if group.code == region.code)
    members = [find_region(code).carbon.value.value for code in group.members if code in CODES]
    assert region.carbon.value == Interval(statistics.median(members), min(members), max(members))
    assert region.carbon.value.value != world().carbon.value.value
    assert region.carbon.notes.startswith("no figure of its own: the median of ")
    assert region.carbon.notes.endswith("members, unweighted; range over them")
    assert group.source in region.carbon.source


def test_the_european_union_is_cleaner_than_germany_and_has_its_own_price():
    union = find_region("EU")
    assert union.carbon.value.value < find_region("DE").carbon.value.value < union.carbon.value.high
    assert union.electricity.value == Interval(0.207)  # on record: no range of members
    assert "median" not in union.electricity.notes


def test_members_of_groups_are_countries_on_record_but_for_the_smallest():
    for group in region_groups():
        missing = [code for code in group.members if code not in CODES]
        assert len(set(group.members)) == len(group.members)
        assert set(missing) <= {"AD", "LI", "MC", "SM", "VA"}  # the smallest of Europe
    sizes = {group.code: len(group.members) for group in region_groups()}
    assert (sizes["EU"], sizes["OECD"], sizes["G7"], sizes["G20"]) == (27, 38, 7, 19)


@pytest.mark.parametrize("text", ["BRICS", "Africa", "South America", "ASEAN", "NATO"])
def test_a_group_that_is_not_on_record_is_refused_and_those_that_are_listed(text):
    with pytest.raises(ValueError, match=re.escape("or a group: EU, EUROPE, ASIA, OECD, G7, G20.")) as error:
        find_region(text)
    assert f"no region {text!r}; the nearest: " in str(error.value)


def test_a_zone_that_is_the_whole_country_is_one_more_source_of_it():
    """Finland is one zone of the Nordic grid."""
    finland = find_region("FI")
    assert finland.name == "Finland"
    assert finland.carbon.value.value == 72.2488
    assert finland.carbon.notes.endswith("codecarbon 2025")


def test_a_price_that_nobody_knows_is_unknown():
    assert find_region("Georgia").electricity is None


def test_the_world_is_the_newest_average():
    assert world().carbon.value == Interval(445.0, 445.0, 494.0)
    assert world().electricity.value == Interval(0.167, 0.12, 0.167)


def test_every_place_has_a_value_within_its_range_and_a_source():
    codes = {row.code for row in (*carbon_intensities(), *electricity_prices())}
    assert len(codes) > 280
    for code in codes:
        region = find_region(code)
        assert region.name
        for sourced in (region.carbon, region.electricity):
            if sourced is None:
                continue
            assert isinstance(sourced, Sourced)
            assert sourced.source
            low, high = sourced.value.low, sourced.value.high
            assert (low is None) == (high is None) == ("range over" not in sourced.notes)
            assert low is None or low <= sourced.value.value <= high
