"""What of a budget is used: by the clock in seconds, else by the runs, those cut off or done outside among them."""

from __future__ import annotations

import dataclasses

import pytest

from epochcast.interval import Interval
from epochcast.planner.costs.budget import KWH, BoardShare, Budget, Price
from epochcast.planner.execution.budget_used import cost_of, energy_ratio, used
from epochcast.planner.execution.ledger import Ledger
from tests.support.plans import light_run, priced, row_of, write_plan
from tests.support.rows import failure_row

WATTS = 360.0  # 1e-4 kWh a second
PRICE = Price(Interval(1e-4), 0.0, BoardShare(WATTS, 1 / 3.6e6))


@pytest.fixture
def plan(tmp_path):
    runs = priced([light_run(size, 10.0) for size in (16, 32, 64)], watts=WATTS)
    return write_plan(tmp_path / "plan.json", runs[:2], runs[2:], budget=Budget(0.01, KWH))


def ledger_of(tmp_path, *lines):
    return Ledger(tmp_path / "a.ledger.jsonl", [{"used_sec": sec, **line} for sec, line in lines], None)


def started(run, factor=1.0):
    """A run that by what is known at its start costs so much more a second than was planned."""
    expected = {"expected_sec": 10.0, "expected_kwh": factor * 1e-3}
    return {"event": "run_started", "run_id": run.planned.run_id, **expected}


def ended(run, cost, **more):
    return {"event": "run_ended", "run_id": run.planned.run_id, "status": "done", "cost": cost, **more}


BEGUN, RESUMED, ALIVE, ENDED = ({"event": event, "plan_id": "a"} for event in ("begun", "resumed", "alive", "ended"))

# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_run_takes_its_planned_cost_per_second_for_as_long_as_it_lasted(plan):
    row = row_of(plan.chosen[0], 12.5)
    assert cost_of(row, PRICE) == pytest.approx(12.5e-4)
    assert cost_of(row, None) == 12.5
    failure = failure_row(wall_sec=3.0)
    assert cost_of(failure, PRICE) == pytest.approx(3e-4)
    assert cost_of(failure, PRICE, 2.0) == pytest.approx(6e-4)  # by what other runs measured
    assert cost_of(row, PRICE, 2.0) == pytest.approx(25e-4)
    assert cost_of(failure, None, 2.0) == 3.0


def test_energy_that_was_measured_goes_before_what_was_planned(plan):
    metered = {"energy_source": "nvml_counter", "energy_estimated": 0, "mean_power_w": 180.0, "energy_j_per_epoch": 1.0}
    row = dataclasses.replace(row_of(plan.chosen[0], 10.0, (2.0, 4.0)), **metered)
    half = cost_of(row, PRICE)
    assert half == pytest.approx(10 * 180 / 3.6e6)  # the whole run at the mean power of its timed epochs
    assert cost_of(row, PRICE, 2.0) == half  # what others measured says nothing of it
    idle = dataclasses.replace(row, idle_power_w=60.0)
    assert cost_of(idle, PRICE) == pytest.approx((6 * 180 + 4 * 60) / 3.6e6)
    with_host = dataclasses.replace(PRICE, per_sec=Interval(2e-4))  # as much again for the host, which nobody measured
    assert cost_of(row, with_host) == pytest.approx(half + 10e-4)
    planned = 10e-4
    assert cost_of(dataclasses.replace(row, energy_estimated=1), PRICE) == pytest.approx(planned)
    assert cost_of(dataclasses.replace(row, energy_flags=("gap",)), PRICE) == pytest.approx(planned)
    rent = Price(Interval(1e-4), 0.0)
    assert cost_of(row, rent) == pytest.approx(planned)
    assert [energy_ratio(row, price) for price in (PRICE, with_host, rent, None)] == [
        pytest.approx(0.5),
        0.75,
        None,
        None,
    ]


# --- a ledger ---------------------------------------------------------------------------------------------------------


def test_a_plan_in_seconds_is_used_by_the_clock(tmp_path):
    plan = write_plan(tmp_path / "plan.json", [light_run(16)])
    assert used(plan, ledger_of(tmp_path, (7.0, BEGUN), (20.0, started(plan.chosen[0])))) == pytest.approx(20, abs=0.1)


def test_runs_that_ended_count_with_their_cost_and_the_time_between_them_does_not(plan, tmp_path):
    first, second = plan.chosen
    lines = [(0.0, BEGUN), (5.0, started(first)), (15.0, ended(first, 1e-3)), (60.0, started(second))]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(1e-3)
    lines += [(70.0, ended(second, 2e-3)), (99.0, ENDED)]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(3e-3)
    assert used(plan, ledger_of(tmp_path)) == 0


def test_a_run_that_was_cut_off_counts_up_to_its_last_sign_of_life_and_no_further(plan, tmp_path):
    first, _ = plan.chosen
    lines = [(0.0, BEGUN), (5.0, started(first)), (10.0, ALIVE), (12.0, ALIVE), (40.0, RESUMED)]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(7e-4)
    assert used(plan, ledger_of(tmp_path, *lines, (43.0, ENDED))) == pytest.approx(7e-4)  # it was not taken up again
    lines += [(40.0, started(first)), (45.0, ALIVE)]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(12e-4)
    lines += [(50.0, ended(first, 1e-3))]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(17e-4)


def test_a_run_that_was_cut_off_costs_what_was_expected_of_it_when_it_was_started(plan, tmp_path):
    first, _ = plan.chosen
    lines = [(0.0, BEGUN), (5.0, started(first, 2.0)), (12.0, ALIVE), (40.0, RESUMED)]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(14e-4)


def test_a_start_that_tells_no_cost_is_one_clear_error(plan, tmp_path):
    line = {"event": "run_started", "run_id": plan.chosen[0].planned.run_id}
    with pytest.raises(ValueError, match=r"a\.ledger\.jsonl: a run's start does not tell its expected_sec"):
        used(plan, ledger_of(tmp_path, (0.0, BEGUN), (5.0, line)))


def test_a_run_that_ended_before_the_ledger_knew_counts_once_and_one_done_by_hand_beside_what_was_cut_off(
    plan, tmp_path
):
    first, _ = plan.chosen
    lines = [(0.0, BEGUN), (5.0, started(first)), (12.0, ALIVE), (15.0, RESUMED)]
    assert used(plan, ledger_of(tmp_path, *lines, (15.0, ended(first, 1e-3)))) == pytest.approx(1e-3)
    by_hand = ended(first, 1e-3, is_outside=True)
    assert used(plan, ledger_of(tmp_path, *lines, (15.0, by_hand))) == pytest.approx(17e-4)


def test_a_run_that_was_refused_or_left_to_another_costs_at_most_its_moments(plan, tmp_path):
    first, second = plan.chosen
    elsewhere = {"event": "run_ended", "run_id": first.planned.run_id, "status": "elsewhere", "wall_sec": None}
    lines = [(0.0, BEGUN), (1.0, started(first)), (1.0, elsewhere), (2.0, started(second)), (2.5, ENDED)]
    assert used(plan, ledger_of(tmp_path, *lines)) == pytest.approx(0.5e-4)
