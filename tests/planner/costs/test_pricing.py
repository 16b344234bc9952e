"""What runs cost in energy, money and CO2: as rows, rules and facts say, and one clear error where they do not."""

from __future__ import annotations

import dataclasses

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.facts.regions import Region, Sourced, find_region
from epochcast.facts.tables import cloud_prices
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.interval import Interval
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.planner.costs.budget import KGCO2, KWH, USD
from epochcast.planner.costs.pricing import with_prices
from epochcast.schema import Conditions
from epochcast.workload.shape import work_of
from tests.support.rows import agg_row, run_costing

DEVICE = "NVIDIA A100 80GB PCIe"
CPU = "AMD EPYC 9B14 (2 cores)"
J_PER_KWH = 3.6e6
GIVEN = FootprintRules(usd_per_kwh=0.5, gco2_per_kwh=400.0)


pytestmark = pytest.mark.usefixtures("home")


def metered(batch_size, seconds, watts, n=6, mad=0.0):
    """A row that measured energy: its epochs take those seconds at that power."""
    joules = seconds * watts
    return agg_row(
        batch_size=batch_size,
        seconds=seconds,
        device_name=DEVICE,
        n_energy=n,
        energy_j_per_epoch_median=joules,
        energy_j_per_epoch_mad=mad * joules,
        mean_power_w_median=watts,
    )


def run_of(batch_size, epochs=10, steady=2.0, overhead=0.0, **more):
    """A candidate without start-up unless named: overhead, and epochs that are all alike."""
    known = run_costing(4 * steady, config=(2, 16, batch_size), epochs=epochs, **more)
    return dataclasses.replace(known, overhead=Interval(overhead, overhead, overhead))


def price_of(run, unit, rules=GIVEN, rows=(), device=DEVICE):
    (priced,), notes = with_prices([run], unit, rules, rows, Conditions(device_name=device))
    return priced, notes


# --- energy -----------------------------------------------------------------------------------------------------------


def test_a_measured_configuration_costs_its_measured_energy_and_another_of_its_device_does_not():
    rows = [metered(64, 2.0, 300.0), metered(128, 3.0, 100.0)]
    hungry, _ = price_of(run_of(64), KWH, rows=rows)
    frugal, _ = price_of(run_of(128, steady=3.0), KWH, rows=rows)
    assert hungry.cost == pytest.approx(10 * 2 * 300 / J_PER_KWH)
    assert frugal.cost == pytest.approx(10 * 3 * 100 / J_PER_KWH)
    assert hungry.total_sec < frugal.total_sec
    assert hungry.cost > frugal.cost
    assert (hungry.price.board.watts, frugal.price.board.watts) == pytest.approx((300.0, 100.0))


def test_the_host_and_the_building_are_added_and_said_and_the_hosts_absence_is_said_too():
    rows = [metered(64, 2.0, 300.0)]
    bare, notes = price_of(run_of(64), KWH, rows=rows)
    assert any(note.startswith("energy at the wall: GPU board only (host unknown: --host_w), PUE 1:") for note in notes)
    full, notes = price_of(run_of(64), KWH, FootprintRules(host_w=150.0, pue=1.5), rows)
    assert full.cost == pytest.approx(1.5 * bare.cost * (300 + 150) / 300)
    assert "energy at the wall: with a host of 150 W, PUE 1.5 as given" in notes
    assert full.price.board.per_j == pytest.approx(1.5 / J_PER_KWH)


def test_the_spread_of_measured_energy_is_the_runs_own_error_and_no_band():
    rows = [metered(64, 2.0, 300.0, n=6, mad=0.02)]
    run, _ = price_of(run_of(64), KWH, rows=rows)
    assert run.price.sd == pytest.approx(0.02 * 1.4826, rel=1e-3)  # of a normal: median absolute deviation to sd
    assert run.price.per_sec.low == pytest.approx(run.price.per_sec.value)
    assert run.price.per_sec.high == pytest.approx(run.price.per_sec.value)
    with_host, _ = price_of(run_of(64), KWH, FootprintRules(host_w=300.0), rows)
    assert with_host.price.sd == pytest.approx(run.price.sd / 2)  # half of the energy is the host's, which is given


def test_an_unmeasured_configuration_draws_what_the_others_do_and_their_range_is_its_own_error():
    rows = [metered(b, 2.0, watts) for b, watts in ((64, 100.0), (128, 200.0), (256, 260.0))]
    run, notes = price_of(run_of(512), KWH, rows=rows)
    assert run.cost == pytest.approx(10 * 2 * 200 / J_PER_KWH)
    assert run.price.sd == pytest.approx(0.5 / HALF_WIDTH_SDS)  # the lowest lies farther off than the highest
    assert "energy: predicted time x power of 3 measured configurations, 100 to 260 W" in notes


def test_an_error_that_too_few_runs_tell_is_unknown_and_said():
    rows = [metered(64, 2.0, 300.0, n=2), metered(128, 2.0, 200.0)]
    runs = [run_of(64), run_of(256)]  # one measured twice, one by the powers of two
    priced, notes = with_prices(runs, KWH, GIVEN, rows, Conditions(device_name=DEVICE))
    few, _ = (c.price for c in priced)
    assert (few.sd, few.per_sec) == (None, Interval(pytest.approx(300 / J_PER_KWH)))
    assert (few.shared, few.unknown) == ((), ("energy",))
    assert "how far the energy of 2 of 2 candidates is off is unknown" in "\n".join(notes)


def test_start_up_is_priced_and_its_band_reaches_down_to_nothing():
    rows = [metered(64, 2.0, 300.0)]
    run, _ = price_of(run_of(64, overhead=20.0), KWH, rows=rows)
    assert run.cost == pytest.approx((20 + 10 * 2) * 300 / J_PER_KWH)
    per_sec = run.price.per_sec
    assert per_sec.low * run.total_sec == pytest.approx(10 * 2 * 300 / J_PER_KWH)  # the process may have drawn nothing
    assert per_sec.high == pytest.approx(per_sec.value)


def test_without_measured_energy_the_power_model_answers_with_its_band_as_common():
    run, notes = price_of(run_of(64), KWH)
    watts, per_sec = board_power(find_gpu(DEVICE).tdp_w), run.price.per_sec
    ends = [each / J_PER_KWH for each in (watts.low, watts.value, watts.high)]
    assert (per_sec.low, per_sec.value, per_sec.high) == pytest.approx(ends)
    assert run.price.sd == 0.0
    assert any(note.startswith("energy: board-power model: 0.468 x TDP 300 W") for note in notes)


def test_a_model_of_times_says_how_busy_the_gpu_is_and_the_note_stands_once_for_all():
    saved, runs = load_model(pretrained_dir() / "a100.keras"), [run_of(batch) for batch in (64, 2048)]
    priced, notes = with_prices(runs, KWH, GIVEN, (), Conditions(device_name=DEVICE), saved)
    for run in priced:
        busy_share = device_share(saved.plain_law, work_of(run.config, saved.train_n))
        assert run.price.board.watts == pytest.approx(board_power(300.0, busy_share).value)
    assert priced[0].price.board.watts != priced[1].price.board.watts
    (note,) = (note for note in notes if "board-power model" in note)
    assert note.startswith("energy: board-power model: a share of TDP 300 W by how busy the GPU is")


def test_energies_of_other_conditions_take_no_part():
    rows = [dataclasses.replace(metered(64, 2.0, 300.0), precision="mixed_float16")]
    run, notes = price_of(run_of(64), KWH, rows=rows)
    assert any("board-power model" in note for note in notes)
    assert run.price.board.watts == pytest.approx(board_power(300.0).value)


def test_the_other_formula_answers_whatever_was_measured_and_tells_no_range():
    run, notes = price_of(run_of(64), KWH, FootprintRules(energy_formula="mlcost"), [metered(64, 2.0, 100.0)])
    assert run.price.per_sec == Interval(pytest.approx(300 * 0.8 * 1.3 / J_PER_KWH))
    assert (run.price.shared, run.price.unknown) == ((), ("formula",))
    assert run.price.board is None
    assert not any("at the wall" in note for note in notes)  # it counts host and cooling itself


# --- money and CO2 ----------------------------------------------------------------------------------------------------


def test_money_is_the_price_times_the_energy_and_its_spread_is_common_to_all():
    rows = [metered(64, 2.0, 300.0)]
    kwh, _ = price_of(run_of(64), KWH, rows=rows)
    run, notes = price_of(run_of(64), USD, rows=rows)
    assert run.cost == pytest.approx(0.5 * kwh.cost)
    assert run.price.per_sec.low == pytest.approx(run.price.per_sec.high)
    assert "electricity at 0.500 USD/kWh, as given" in notes
    region = Region("XA", "Exampleland", Sourced(Interval(100.0), None, "none", ""), sourced(0.2, 0.1, 0.4))
    there, notes = price_of(run_of(64), USD, FootprintRules(regions=(region,)), rows)
    per_sec = there.price.per_sec
    assert there.cost == pytest.approx(0.2 * kwh.cost)
    assert (per_sec.low, per_sec.high) == pytest.approx((per_sec.value / 2, per_sec.value * 2))
    assert (there.price.shared, there.price.unknown) == (("price",), ())
    assert any("0.100 to 0.400" in note and note.endswith("Exampleland (XA)") for note in notes)


def sourced(value, *ends):
    return Sourced(Interval(value, *ends), "2024", "a table", "")


def test_a_rate_of_one_source_has_no_range_and_says_so():
    region = Region("XA", "Exampleland", sourced(100.0), sourced(0.2))
    run, notes = price_of(run_of(64), KGCO2, FootprintRules(regions=(region,)), [metered(64, 2.0, 300.0)])
    assert run.price.unknown == ("carbon",)
    assert run.price.known == Interval(run.price.per_sec.value)  # exact by power, but that is not all of it
    assert any(note.startswith("carbon at 100 g CO2e/kWh") and "range unknown" in note for note in notes)


def test_beside_a_rate_of_one_source_the_band_of_the_power_is_kept():
    region = Region("XA", "Exampleland", sourced(100.0), sourced(0.2))
    run, _ = price_of(run_of(64), USD, FootprintRules(regions=(region,)))
    kwh, _ = price_of(run_of(64), KWH)
    assert (run.price.shared, run.price.unknown) == (("power",), ("price",))
    assert run.price.known == run.price.per_sec
    ends = [0.2 * end for end in (kwh.price.per_sec.low, kwh.price.per_sec.high)]
    assert (run.price.per_sec.low, run.price.per_sec.high) == pytest.approx(ends)


@pytest.mark.parametrize("watts", [100.0, 299.7, 311.1, 333.3])
@pytest.mark.parametrize("mad", [0.0, 0.013, 0.02])
def test_a_band_of_roundings_alone_is_none(watts, mad):
    rows = [metered(64, 2.1, watts, mad=mad)]
    rules = FootprintRules(host_w=71.3, pue=1.37, usd_per_kwh=0.317)
    run, _ = price_of(run_of(64, epochs=7, steady=2.1), USD, rules, rows)
    per_sec = run.price.per_sec
    assert per_sec.low == per_sec.value == per_sec.high
    assert (run.price.shared, run.price.unknown) == ((), ())


def test_co2_is_carbon_times_energy_and_on_request_the_making_of_the_gpu():
    rows = [metered(64, 2.0, 300.0)]
    kwh, _ = price_of(run_of(64), KWH, rows=rows)
    run, notes = price_of(run_of(64), KGCO2, rows=rows)
    assert run.cost == pytest.approx(0.4 * kwh.cost)
    assert "without the making of the GPU (--embodied)" in notes
    made, notes = price_of(run_of(64), KGCO2, dataclasses.replace(GIVEN, has_embodied=True), rows)
    kg, years, share = (assumption(f"embodied_{n}", "gpu").value for n in ("kg_co2e", "lifetime_years", "use_share"))
    per_hour = kg / (years * 8760 * share)
    assert made.cost - run.cost == pytest.approx(per_hour * run.total_sec / 3600)
    assert made.price.per_sec.low < made.price.per_sec.value < made.price.per_sec.high
    assert made.price.shared == ("making",)
    assert any(note.startswith("with the making of the GPU, assumed: 150 kg") for note in notes)


def test_without_a_region_it_is_the_world_and_not_your_location():
    rows = [metered(64, 2.0, 300.0)]
    run, notes = price_of(run_of(64), KGCO2, FootprintRules(), rows)
    assert any("world average, not your location" in note for note in notes)
    here, _ = price_of(run_of(64), KGCO2, FootprintRules(regions=(find_region("FR"),)), rows)
    assert here.cost < run.cost / 5


def test_rent_is_paid_by_the_hour_whatever_is_drawn_and_needs_no_known_power():
    rules = FootprintRules(usd_per_gpu_hour=1.8)
    for device, rows in ((DEVICE, [metered(64, 2.0, 300.0)]), (CPU, []), (None, [])):
        run, notes = price_of(run_of(64, overhead=16.0, sd=None), USD, rules, rows, device)
        assert run.cost == pytest.approx(1.8 * 36 / 3600)
        assert (run.price.sd, run.price.board) == (0.0, None)
        assert notes == ["USD are rent: 1.8 a GPU hour, as given, from the start of a process to its exit"]
    assert cloud_prices()  # there are some, but a box of one's own pays none of them
    bought, _ = price_of(run_of(64), USD, GIVEN, [metered(64, 2.0, 300.0)])
    assert bought.cost == pytest.approx(0.5 * 20 * 300 / J_PER_KWH)


# --- what cannot be priced --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [KWH, KGCO2, USD])
@pytest.mark.parametrize(("device", "host_w"), [(CPU, None), (None, 200.0), ("NVIDIA Imaginary 9000", 200.0)])
def test_unknown_power_is_one_clear_error_that_no_host_mends_but_a_processor_s(unit, device, host_w):
    rules = dataclasses.replace(GIVEN, host_w=host_w)
    with pytest.raises(
        ValueError, match=rf"--budget_{unit.key}: what .* draws is unknown: no row has its energy"
    ) as error:
        price_of(run_of(64), unit, rules, device=device)
    assert "Say what it draws with --board_w (--host_w is all of a box only where it trains on its processor)" in str(
        error.value
    )
    assert ("--usd_per_gpu_hour" in str(error.value)) == (unit == USD)


@pytest.mark.parametrize("unit", [KWH, KGCO2, USD])
@pytest.mark.parametrize(
    ("device", "given", "watts"),
    [
        (CPU, {"host_w": 200.0}, 200.0),
        (CPU, {"board_w": 65.0}, 65.0),
        (CPU, {"board_w": 65.0, "host_w": 35.0}, 100.0),
        (None, {"board_w": 300.0, "host_w": 100.0}, 400.0),
        ("NVIDIA Imaginary 9000", {"board_w": 300.0}, 300.0),
        (DEVICE, {"board_w": 120.0}, 120.0),
    ],
)
def test_watts_by_hand_price_every_second_of_a_run_exactly(unit, device, given, watts):
    run = run_of(64)
    priced, notes = price_of(run, unit, dataclasses.replace(GIVEN, **given), device=device)
    per_kwh = {KWH: 1.0, USD: 0.5, KGCO2: 0.4}[unit]
    assert priced.cost == pytest.approx(watts * run.total_sec / J_PER_KWH * per_kwh)
    assert priced.price.sd == 0.0
    assert (priced.price.shared, priced.price.unknown) == ((), ())
    assert any(("--board_w" if "board_w" in given else "part of the host's") in note for note in notes)


@pytest.mark.parametrize("unit", [KGCO2, USD])
def test_on_a_processor_the_spread_of_a_rate_is_common_to_all_runs_whichever_watts_are_given(unit):
    region = Region("XA", "Exampleland", sourced(100.0, 50.0, 300.0), sourced(0.2, 0.1, 0.4))
    prices = []
    for given in ({"host_w": 100.0}, {"board_w": 65.0, "host_w": 35.0}):
        run, _ = price_of(run_of(64), unit, FootprintRules(regions=(region,), **given), device=CPU)
        prices.append(run.price.per_sec)
        assert run.price.shared == ({KGCO2: "carbon", USD: "price"}[unit],)
    host, both = ([price.value, price.low, price.high] for price in prices)
    assert host == pytest.approx(both)
    assert [host[1] / host[0], host[2] / host[0]] == pytest.approx({KGCO2: [0.5, 3.0], USD: [0.5, 2.0]}[unit])


def test_a_place_without_a_price_names_the_flags_that_mend_it():
    region = Region("XA", "Exampleland", sourced(100.0), None)
    with pytest.raises(ValueError, match=r"no price of electricity is on record for Exampleland \(XA\)") as error:
        price_of(run_of(64), USD, FootprintRules(regions=(region,)))
    assert all(flag in str(error.value) for flag in ("--usd_per_kwh", "--region", "--usd_per_gpu_hour"))
    price_of(run_of(64), KGCO2, FootprintRules(regions=(region,)))


@pytest.mark.parametrize(
    ("unit", "rules", "flag"),
    [
        (USD, FootprintRules(usd_per_kwh=0.0), "--usd_per_kwh"),
        (USD, FootprintRules(usd_per_gpu_hour=0.0), "--usd_per_gpu_hour"),
        (KGCO2, FootprintRules(gco2_per_kwh=0.0), "--gco2_per_kwh"),
    ],
)
def test_what_is_free_is_no_budget(unit, rules, flag):
    with pytest.raises(ValueError, match=f"{flag} 0 makes every run free") as error:
        price_of(run_of(64), unit, rules)
    assert ("--embodied" in str(error.value)) == (unit == KGCO2)
    assert ("Name a price" in str(error.value)) == (unit == USD)


def test_where_electricity_emits_nothing_the_making_of_the_gpu_is_a_budget():
    run, _ = price_of(run_of(64), KGCO2, FootprintRules(gco2_per_kwh=0.0, has_embodied=True))
    assert run.price.per_sec.value > 0
