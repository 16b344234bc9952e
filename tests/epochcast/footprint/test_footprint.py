"""Joules to kWh, money and CO2: corners of the ranges by hand, what is unknown, what is never counted twice."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from epochcast.facts.regions import Region, Sourced, find_region
from epochcast.facts.tables import cloud_prices, equivalences, pues
from epochcast.footprint import footprint as module
from epochcast.footprint import text as footprint_text
from epochcast.footprint.footprint import (
    BoardEnergy,
    board_power_model,
    embodied,
    footprint,
    mlcost_energy,
    modelled_energy,
    rates_of,
)
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import (
    equivalents,
    footprint_json,
    footprint_lines,
    region_sources,
    region_table,
)
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.interval import Interval

HOUR = Interval(3600.0, 3000.0, 4200.0)
ONE_KWH = BoardEnergy(Interval(3.6e6, 1.8e6, 7.2e6), "measured, 5 runs")
HERE = Region(
    "XX",
    "Nowhere",
    carbon=Sourced(Interval(400.0, 300.0, 500.0), "2024", "someone (somewhere.org)", ""),
    electricity=Sourced(Interval(0.25, 0.20, 0.40), None, "someone (somewhere.org)", "tariff: not stated"),
)


def at(energy=ONE_KWH, wall=HOUR, gpu=None, **rules):
    (rates,) = rates_of(FootprintRules(**{"regions": (HERE,), **rules}), gpu)
    return footprint(energy, wall, rates)


def ends(interval):
    return interval.value, interval.low, interval.high


# --- energy -----------------------------------------------------------------------------------------------------------


def test_mlcosts_own_example_comes_out():
    energy = mlcost_energy(Interval(1255.7), 400.0, 8)
    assert energy.kwh.value == pytest.approx(1.161, abs=5e-4)
    found = at(energy, Interval(1255.7), usd_per_kwh=0.094, usd_per_gpu_hour=2.0, energy_formula="mlcost")
    assert found.electricity_usd.value == pytest.approx(0.109, abs=5e-4)
    assert found.cloud_usd.value == pytest.approx(
        8 * 2.0 * 1255.7 / 3600
    )  # an energy of eight boards is rented by eight
    assert found.board_kwh is None  # the formula tells of no board alone
    assert "MLCost's formula: TDP 400 W x 8 x 0.80 x 1.30" in footprint_lines(found)["energy"]


def test_the_board_power_model_takes_the_lowest_power_in_the_shortest_time():
    energy, watts = board_power_model(HOUR, 300.0), board_power(300.0)
    assert ends(energy.joules) == pytest.approx((3600 * watts.value, 3000 * watts.low, 4200 * watts.high))
    assert energy.method == "board-power model: 0.468 x power limit 300 W, x/÷3.99"
    assert energy.words == energy.method
    assert "TDP 300 W" in board_power_model(HOUR, 300.0, "TDP").method


def test_a_known_busy_share_narrows_the_energy_and_is_named_apart_from_the_method():
    unknown, known = board_power_model(HOUR, 300.0), board_power_model(HOUR, 300.0, busy_share=0.25)
    assert known.joules.value == pytest.approx(3600 * board_power(300.0, 0.25).value)
    assert known.joules.high / known.joules.low < unknown.joules.high / unknown.joules.low
    assert "25.0 %" not in known.method  # several runs have it in common
    assert known.words == f"{known.method}; busy 25.0 %: 0.37"
    assert "by how busy the GPU is" in known.method


def test_a_limit_below_the_tdp_is_named_beside_it():
    energy = board_power_model(HOUR, 200.0, busy_share=1.0, tdp_w=300.0)
    assert energy.joules.value == 3600 * 200.0
    assert "TDP 300 W, at most the power limit 200 W" in energy.method


def test_a_modelled_energy_is_by_the_limit_else_the_tdp_and_by_the_busy_share_where_it_is_known():
    gpu, rules = find_gpu("A100 80GB PCIe"), FootprintRules()
    plain, busy = (modelled_energy(HOUR, rules, gpu, False, busy_share=share) for share in (None, 1.0))
    assert plain == board_power_model(HOUR, gpu.tdp_w, "TDP")
    assert busy == board_power_model(HOUR, gpu.tdp_w, "TDP", 1.0)
    limited = modelled_energy(HOUR, rules, gpu, False, 200.0, busy_share=1.0)
    assert limited == board_power_model(HOUR, 200.0, busy_share=1.0, tdp_w=gpu.tdp_w)
    assert modelled_energy(HOUR, rules, None, False, busy_share=1.0) is None


def test_a_time_of_unknown_range_leaves_the_energys_unknown():
    found = board_power_model(Interval(3600.0), 300.0).joules
    assert ends(found) == (pytest.approx(3600 * board_power(300.0).value), None, None)


# --- money and CO2 ----------------------------------------------------------------------------------------------------


def test_ranges_of_energy_price_and_carbon_are_carried_to_their_corners():
    found = at()
    assert ends(found.wall_kwh) == pytest.approx((1.0, 0.5, 2.0))
    assert ends(found.electricity_usd) == pytest.approx((0.25, 0.10, 0.80))
    assert ends(found.operational_kg_co2e) == pytest.approx((0.4, 0.15, 1.0))


def test_wall_energy_is_board_and_host_times_pue():
    found = at(host_w=200.0, pue=1.5)
    assert ends(found.wall_kwh) == pytest.approx(
        (1.5 * (1 + 0.2), 1.5 * (0.5 + 0.2 * 3000 / 3600), 1.5 * (2.0 + 0.2 * 4200 / 3600))
    )
    assert ends(found.board_kwh) == pytest.approx((1.0, 0.5, 2.0))
    lines = footprint_lines(found)
    assert "with a host of 200 W, PUE 1.5 as given" in lines["wall_energy"]


def test_an_unknown_host_is_named_and_the_pue_of_data_centres_told():
    line = footprint_lines(at())["wall_energy"]
    surveyed = footprint_text.data_centre_pue()
    assert surveyed in pues()
    assert surveyed.pue > 1.5
    assert line.startswith(
        "1.00 kWh (0.500 to 2.00), GPU board only (host unknown: --host_w), PUE 1: a box of one's own"
    )
    assert f"{surveyed.pue:g}, {surveyed.year}" in line


def test_what_the_user_gives_is_exact_and_wins_over_the_facts():
    found = at(usd_per_kwh=0.1, gco2_per_kwh=50.0, usd_per_gpu_hour=2.0)
    assert ends(found.electricity_usd) == pytest.approx((0.1, 0.05, 0.2))
    assert ends(found.operational_kg_co2e) == pytest.approx((0.05, 0.025, 0.1))
    assert ends(found.cloud_usd) == pytest.approx((2.0, 2 * 3000 / 3600, 2 * 4200 / 3600))
    lines = footprint_lines(found)
    assert lines["electricity"].endswith("at 0.100 USD/kWh (exact)")
    assert lines["electricity_price"] == lines["carbon_intensity"] == "as given"


def test_zero_is_a_price_and_no_missing_one():
    found = at(usd_per_kwh=0.0, gco2_per_kwh=0.0, host_w=0.0)
    assert found.electricity_usd.value == 0.0
    assert found.operational_kg_co2e.value == 0.0
    told = {each.fact.key: each for each in equivalents(found)}
    assert told["car_km_us"].amount.value == 0.0
    assert told["smartphone_charge"].kg_co2e_per_unit == 0.0  # on a grid that emits nothing
    assert "with a host of 0 W" in footprint_lines(found)["wall_energy"]
    assert region_table([found, found])  # a ratio to nothing is left out


def test_unknown_energy_stays_unknown_and_time_is_priced_all_the_same():
    found = at(None, usd_per_gpu_hour=2.0)
    assert (found.board_kwh, found.wall_kwh, found.electricity_usd, found.operational_kg_co2e) == (None,) * 4
    assert found.cloud_usd.value == 2.0
    lines = footprint_lines(found)
    assert lines["board_energy"].startswith("unknown")
    assert lines["co2_operational"].startswith("unknown, as the energy is, at 400 g/kWh")
    assert "wall_energy" not in lines
    assert not [name for name in lines if name.startswith("as_much_as")]
    as_json = json.loads(json.dumps(footprint_json(found), allow_nan=False))
    assert as_json["wall_kwh"] is None
    assert as_json["operational_kg_co2e_low"] is None


def test_one_source_tells_of_no_range():
    region = replace(HERE, electricity=Sourced(Interval(0.25), "2024", "someone (x.org)", ""))
    found = at(regions=(region,))
    assert found.electricity_usd.value == pytest.approx(0.25)
    assert (found.electricity_usd.low, found.electricity_usd.high) == (None, None)
    lines = footprint_lines(found)
    assert lines["electricity"] == "0.250 USD (0.125 to 0.500 at just this rate), at 0.250 USD/kWh (range unknown)"
    assert lines["electricity_price"] == "someone 2024"


def test_a_place_without_a_price_says_which_flag_would_tell_it():
    found = at(regions=(replace(HERE, electricity=None),))
    assert found.electricity_usd is None
    assert footprint_lines(found)["electricity"] == "unknown: no price on record (say --usd_per_kwh)"
    assert footprint_json(found)["usd_per_kwh"] is None


@pytest.mark.parametrize("seed", range(50))
def test_value_lies_between_its_ends_and_more_costs_more(seed):
    draw = random.Random(seed)

    def some(most):
        low, value, high = sorted(draw.uniform(0, most) for _ in range(3))
        return Interval(value, low, high)

    region = replace(
        HERE, carbon=replace(HERE.carbon, value=some(900)), electricity=replace(HERE.electricity, value=some(0.5))
    )
    wall, rules = some(1e5), {"host_w": draw.uniform(0, 500), "pue": draw.uniform(1, 2), "regions": (region,)}
    energy = board_power_model(wall, draw.uniform(50, 1000))
    found = at(energy, wall, **rules)
    for interval in (found.wall_kwh, found.electricity_usd, found.operational_kg_co2e):
        assert interval.low <= interval.value <= interval.high
    more = at(energy, wall, **{**rules, "host_w": rules["host_w"] + 1, "pue": rules["pue"] + 0.1})
    assert more.wall_kwh.value > found.wall_kwh.value
    assert more.electricity_usd.low >= found.electricity_usd.low


# --- clouds -----------------------------------------------------------------------------------------------------------


def test_a_cloud_is_priced_by_the_newest_offer_with_the_range_of_all_but_disputed_and_spot_ones():
    gpu = find_gpu("NVIDIA H100 80GB HBM3")
    offers = [row for row in cloud_prices() if row.gpu == gpu.name]
    sound = [row for row in offers if row.offer == "on-demand" and row.confidence != "disputed"]
    assert len(sound) < len(offers)
    assert {row.confidence for row in offers} >= {"disputed"}
    found = at(gpu=gpu)
    rate = found.rates.usd_per_gpu_hour
    prices = [row.usd_per_gpu_hour for row in sound]
    assert ends(rate.value) == (rate.value.value, min(prices), max(prices))
    assert rate.value.value in prices
    assert "2025-12" in rate.words  # the newest on record
    assert ends(found.cloud_usd) == pytest.approx(
        (rate.value.value, min(prices) * 3000 / 3600, max(prices) * 4200 / 3600)
    )


def test_a_disputed_price_is_never_taken_even_where_it_is_the_only_one(monkeypatch):
    gpu = find_gpu("NVIDIA H100 80GB HBM3")
    disputed = tuple(row for row in cloud_prices() if row.confidence == "disputed")
    monkeypatch.setattr(module, "cloud_prices", lambda: disputed)
    found = at(gpu=gpu)
    assert found.cloud_usd is None
    assert footprint_lines(found)["cloud"] == "unknown: no price on record (say --usd_per_gpu_hour)"


def test_several_boards_cost_their_hours_each_and_unknown_energy_is_of_one():
    eight = replace(ONE_KWH, gpus=8)
    assert at(eight, usd_per_gpu_hour=2.0).cloud_usd.value == 16.0
    made = at(has_embodied=True).embodied_kg_co2e
    assert at(eight, has_embodied=True).embodied_kg_co2e.value == pytest.approx(8 * made.value)
    assert at(None, gpu=find_gpu("GH200 96GB"), has_embodied=True).embodied_kg_co2e == made


@pytest.mark.parametrize("gpus", [0, -1, 2.5, float("nan")])
def test_a_number_of_boards_that_cannot_be_is_refused(gpus):
    with pytest.raises(ValueError, match="gpus must be a whole number of at least 1"):
        mlcost_energy(HOUR, 400.0, gpus)


# --- embodied, equivalents --------------------------------------------------------------------------------------------


def test_embodied_emissions_are_a_line_of_their_own_with_their_assumptions():
    without, found = at(), at(has_embodied=True)
    assert without.embodied_kg_co2e is None
    assert "co2_embodied" not in footprint_lines(without)
    assert found.operational_kg_co2e == without.operational_kg_co2e  # not added to it
    assert found.embodied_kg_co2e.value == pytest.approx(150 / (5 * 8760 * 0.7))
    assert found.embodied_kg_co2e.low == pytest.approx(embodied().kg_per_hour.low * 3000 / 3600)
    line = footprint_lines(found)["co2_embodied"]
    assert "not in co2_operational; assumed: 150 kg (60.0 to 318) to make a GPU, 5 years of service, 70 %" in line


def test_what_burns_electricity_is_compared_by_the_runs_own_grid():
    by_place = {
        region.code: {told.fact.key: told for told in equivalents(at(regions=(region,)))}
        for region in (HERE, find_region("FR"))
    }
    here, france = by_place["XX"], by_place["FR"]
    assert here["led_hour_10w"].amount.value == france["led_hour_10w"].amount.value == pytest.approx(100)  # 1 kWh, 10 W
    assert here["led_hour_10w"].kg_co2e_per_unit == pytest.approx(0.01 * 400 / 1000)
    assert france["led_hour_10w"].kg_co2e_per_unit < here["led_hour_10w"].kg_co2e_per_unit / 5
    assert here["smartphone_charge"].amount.value == france["smartphone_charge"].amount.value
    ratio = find_region("FR").carbon.value.value / 400
    assert france["car_km_us"].amount.value == pytest.approx(ratio * here["car_km_us"].amount.value)


def test_no_shown_equivalent_burns_electricity_of_another_grid():
    burning = {"smartphone_charge", "led_hour_10w", "home_kwh_us"}  # of the facts, those that do
    by_grid = {told.fact.key: told.is_from_grid for told in equivalents(at())}
    assert {key for key, is_from_grid in by_grid.items() if is_from_grid} == burning & set(by_grid)
    assert not by_grid["car_km_us"]


def test_every_equivalent_shows_its_factor_source_and_confidence_and_none_is_disputed():
    told = equivalents(at())
    assert [each.fact.key for each in told] == ["car_km_us", "smartphone_charge", "led_hour_10w"]
    facts = {fact.key: fact for fact in equivalences()}
    lines = {name: text for name, text in footprint_lines(at()).items() if name.startswith("as_much_as_")}
    assert list(lines) == ["as_much_as_km", "as_much_as_charge", "as_much_as_hour"]
    per_km = facts["car_km_us"].kg_co2e_per_unit
    assert lines["as_much_as_km"] == (  # 0.4 kg, 0.15 to 1
        f"{0.4 / per_km:.2f} km ({0.15 / per_km:.3f} to {1 / per_km:.2f}), average US petrol passenger car: "
        f"{per_km:g} kg each, EPA equivalencies calculator 2024, confidence two"
    )
    assert lines["as_much_as_hour"].startswith("100 hour (50.0 to 200), ")
    assert ", of this grid, confidence" in lines["as_much_as_charge"]


def test_an_equivalence_that_becomes_disputed_is_shown_no_more(monkeypatch):
    facts = tuple(replace(f, confidence="disputed") if f.key == "car_km_us" else f for f in equivalences())
    monkeypatch.setattr(footprint_text, "equivalences", lambda: facts)
    assert [each.fact.key for each in equivalents(at())] == ["smartphone_charge", "led_hour_10w"]


# --- places -----------------------------------------------------------------------------------------------------------


def test_without_a_place_it_is_the_world_and_says_not_yours():
    (rates,) = rates_of(FootprintRules(), None)
    found = footprint(ONE_KWH, HOUR, rates)
    assert footprint_lines(found)["region"] == "world average, not your location (say --region)"
    as_json = footprint_json(found)
    assert (as_json["region"], as_json["is_your_location"]) == ("WORLD", False)
    named = at(regions=(find_region("WORLD"),))
    assert footprint_lines(named)["region"] == "World (WORLD)"


def test_several_places_give_ratios_to_the_first():
    rules = FootprintRules(regions=tuple(map(find_region, ("DE", "FR", "US"))))
    found = [footprint(ONE_KWH, HOUR, rates) for rates in rates_of(rules, None)]
    table = region_table(found).splitlines()
    assert table[0].split() == ["region", "USD/kWh", "USD", "range", "x", "g/kWh", "kg", "CO2", "range", "x"]
    germany, france, _ = table[1:]
    assert germany.split().count("1.00") == 2
    ratio = find_region("FR").carbon.value.value / find_region("DE").carbon.value.value
    assert france.endswith(f"{ratio:.3f}")
    assert "year unknown" in region_sources(found)[0]  # of the second price
    assert max(map(len, table)) <= 120


def test_what_places_have_in_common_is_said_once():
    other = replace(HERE, code="YY", carbon=replace(HERE.carbon, value=Interval(50.0), notes="of a lake"))
    priceless = replace(HERE, code="ZZ", electricity=None)
    found = [footprint(ONE_KWH, HOUR, rates) for rates in rates_of(FootprintRules((HERE, other, priceless)), None)]
    assert region_sources(found) == [
        "USD/kWh: XX 0.250 (0.200 to 0.400), YY 0.250 (0.200 to 0.400); someone year unknown; tariff: not stated",
        "USD/kWh: ZZ unknown; no price on record",
        "g/kWh: XX 400 (300 to 500), ZZ 400 (300 to 500); someone 2024",
        "g/kWh: YY 50.0 (range unknown); someone 2024; of a lake",
    ]


def test_beside_other_places_the_sources_are_left_to_the_table():
    (found,) = [
        footprint(ONE_KWH, HOUR, rates) for rates in rates_of(FootprintRules((HERE,), usd_per_gpu_hour=2), None)
    ]
    alone, beside = footprint_lines(found), footprint_lines(found, is_alone=False)
    assert alone.keys() - beside.keys() == {"electricity_price", "carbon_intensity"}
    assert beside["cloud_price"] == "as given"


def test_who_says_a_rate_is_named_without_the_place_in_its_code():
    priced = Sourced(Interval(0.2), None, 'someone: rates.py RATES["xx"]', "")
    assert at(regions=(replace(HERE, electricity=priced),)).rates.usd_per_kwh.words == "someone year unknown"


def test_lines_of_an_answer_stay_readable():
    energy = board_power_model(HOUR, 300.0, "TDP", 0.463)
    found = at(energy, gpu=find_gpu("A100 80GB PCIe"), regions=(find_region("DE"),))
    notes = ("wall_energy", "electricity_price", "cloud_price", "carbon_intensity")
    lines = [f"{name}: {text}" for name, text in footprint_lines(found).items() if name not in notes]
    assert max(map(len, lines)) <= 140


def test_json_holds_full_precision_and_every_rate_with_its_source():
    found = at(board_power_model(HOUR, 333.0), gpu=find_gpu("A100 80GB PCIe"), has_embodied=True)
    as_json = json.loads(json.dumps(footprint_json(found), allow_nan=False))
    assert as_json["wall_kwh"] == pytest.approx(board_power(333.0).value * 3600 / 3.6e6, rel=1e-12)
    for name in ("board_kwh", "wall_kwh", "electricity_usd", "operational_kg_co2e", "embodied_kg_co2e"):
        assert as_json[f"{name}_low"] < as_json[name] < as_json[f"{name}_high"]
    assert as_json["gco2_per_kwh_source"] == "someone (somewhere.org), 2024"
    assert as_json["usd_per_kwh_source"].startswith("someone (somewhere.org), year unknown")
    assert as_json["usd_per_gpu_hour_low"] is None  # one offer
    assert {each["key"] for each in as_json["equivalents"]} == {"car_km_us", "smartphone_charge", "led_hour_10w"}


# --- wrong rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"usd_per_kwh": -0.1}, "usd_per_kwh must be a finite number of at least 0, got -0.1"),
        ({"gco2_per_kwh": -1.0}, "gco2_per_kwh must be"),
        ({"usd_per_gpu_hour": -1.0}, "usd_per_gpu_hour must be"),
        ({"usd_per_kwh": float("nan")}, "usd_per_kwh must be a finite number"),
        ({"host_w": -5.0}, "host_w must be"),
        ({"pue": 0.99}, "pue must be at least 1"),
        ({"pue": float("inf")}, "pue must be at least 1"),
        ({"energy_formula": "guess"}, "energy_formula must be one of board_power, mlcost"),
        ({"energy_formula": "mlcost", "pue": 1.2}, "leave pue and host_w out"),
        ({"energy_formula": "mlcost", "host_w": 90.0}, "leave pue and host_w out"),
    ],
)
def test_wrong_rules_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        FootprintRules(**rules)


def test_a_run_without_a_gpu_has_no_making_of_one():
    (rates,) = rates_of(FootprintRules((HERE,), has_embodied=True), None)
    found = footprint(None, HOUR, rates)
    assert found.embodied_kg_co2e is None
    assert footprint_lines(found)["co2_embodied"] == "unknown: no GPU is known to be used"
    assert footprint_json(found)["embodied_kg_co2e"] is None
    assert footprint(ONE_KWH, HOUR, rates).embodied_kg_co2e is not None  # a board whose energy was measured
    (known,) = rates_of(FootprintRules((HERE,), has_embodied=True), find_gpu("GH200 96GB"))
    assert footprint(None, HOUR, known).embodied_kg_co2e is not None  # its power limit alone is unknown
