"""Energy of trainings on whole nodes, its money and CO2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.facts.regions import find_region
from epochcast.footprint.footprint import J_PER_KWH
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json, footprint_lines
from epochcast.gpus.lookup import find_gpu
from epochcast.interval import Interval
from epochcast.mlperf.training_energy import node_power_share, training_energy, training_footprints

H100, A100 = find_gpu("H100-SXM-80GB"), find_gpu("A100-SXM-80GB")
HOUR = Interval(3600.0, 3000.0, 4200.0)
KOREA, GERMANY = find_region("Korea"), find_region("Germany")


def test_energy_is_share_times_tdp_times_gpus_times_time():
    share = node_power_share()
    kwh = training_energy(H100, 8, HOUR).kwh
    watts = 8 * 700.0
    assert kwh.value == pytest.approx(share.value * watts / 1e3)
    assert kwh.low == pytest.approx(share.low * watts * 3000 / J_PER_KWH)
    assert kwh.high == pytest.approx(share.high * watts * 4200 / J_PER_KWH)


def test_switches_of_the_network_come_on_top():
    with_network = training_energy(H100, 64, HOUR, has_network=True)
    without = training_energy(H100, 64, HOUR)
    assert with_network.kwh.value > without.kwh.value
    assert "with switches of the network" in with_network.method
    assert "without switches of the network" in without.method


def test_the_limit_of_the_board_in_question_counts():
    limited = find_gpu("A100-SXM-80GB (500W)")
    assert training_energy(limited, 8, HOUR).joules.value == pytest.approx(
        1.25 * training_energy(A100, 8, HOUR).joules.value
    )


def test_a_time_of_unknown_range_leaves_the_energys_unknown():
    joules = training_energy(H100, 8, Interval(3600.0)).joules
    assert (joules.low, joules.high) == (None, None)


def test_mlcosts_example_comes_out_at_its_prices():
    rules = FootprintRules(regions=(KOREA, GERMANY), energy_formula="mlcost")
    korea, germany = training_footprints(A100, 8, Interval(1255.7), rules)
    assert korea.wall_kwh.value == pytest.approx(1.161, abs=5e-4)
    assert korea.electricity_usd.value == pytest.approx(0.109, abs=5e-4)
    assert germany.electricity_usd.value == pytest.approx(0.380, abs=5e-4)
    given = training_footprints(A100, 8, Interval(1255.7), replace(rules, usd_per_kwh=1.0))
    assert given[0].electricity_usd.value == pytest.approx(1.161, abs=5e-4)


def test_mlcosts_formula_in_a_region_without_its_price_takes_ours():
    rules = FootprintRules(regions=(find_region("Norway"),), energy_formula="mlcost")
    (found,) = training_footprints(A100, 8, HOUR, rules)
    assert found.rates.usd_per_kwh.value.value > 0
    assert "MLCost" not in found.rates.usd_per_kwh.source


def test_hosts_count_and_a_buildings_cooling_comes_on_top():
    (found,) = training_footprints(H100, 8, HOUR, FootprintRules(regions=(KOREA,), pue=1.5))
    assert found.wall_kwh.value == pytest.approx(1.5 * found.energy.kwh.value)
    assert found.board_kwh is None
    assert footprint_json(found)["board_kwh"] is None
    lines = footprint_lines(found)
    assert "board_energy" not in lines
    assert "power of nodes" in lines["energy"]
    assert lines["wall_energy"].endswith("nodes with their hosts, PUE 1.5 as given")
    assert found.gpu_hours.value == pytest.approx(8.0)


@pytest.mark.parametrize("given", [{"host_w": 500.0}, {"board_w": 500.0}])
def test_a_power_of_parts_is_refused(given):
    with pytest.raises(ValueError, match="leave host_w and board_w out"):
        training_footprints(H100, 8, HOUR, FootprintRules(**given))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="TDP of GH200 96GB is unknown"):
        training_energy(find_gpu("GH200 96GB"), 8, HOUR)
    with pytest.raises(ValueError, match="gpus must be at least 1, got 0"):
        training_energy(H100, 0, HOUR)
    with pytest.raises(ValueError, match="mlcost knows no switches"):
        training_energy(H100, 8, HOUR, has_network=True, is_mlcost=True)
