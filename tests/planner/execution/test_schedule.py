"""Which run of a plan comes next: what is started within what is left, and how the rest is planned again."""

from __future__ import annotations

import math

import pytest

from epochcast.planner.costs.budget import KWH, Budget
from epochcast.planner.costs.values import ACC, INFO
from epochcast.planner.execution.schedule import Actual, Factors, Schedule
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.plan.plan import Knowledge
from tests.support.plans import light_run, priced, write_plan
from tests.support.rows import random_runs

MARGIN = Margin(1.645, 0.05)


@pytest.fixture
def schedule_of(tmp_path):
    def schedule_of(chosen, excluded=(), replans=True, **more):
        return Schedule(write_plan(tmp_path / "plan.json", chosen, excluded, **more), replans)

    return schedule_of


def took(run, factor=1.0):
    """What a run takes that is slower than predicted by that factor, in all its parts."""
    candidate = run.candidate
    return Actual(*(factor * part.value for part in (candidate.overhead, candidate.first_epoch, candidate.steady)))


def sizes(runs):
    return [run.candidate.config.batch_size for run in runs]


def carried_out(schedule, left_sec, factor=1.0):
    """Batch sizes of the runs that were done, and the seconds that they took."""
    used = 0.0
    while (run := schedule.next_run(left_sec - used)) is not None:
        used += factor * run.candidate.total_sec
        schedule.finish(run, took(run, factor))
    return sizes(run for run, _ in schedule.finished), used


# --- factors ----------------------------------------------------------------------------------------------------------


def test_a_factor_is_the_median_of_actual_over_predicted_shrunk_as_by_two_exact_runs():
    candidate = light_run(16, 4.0)  # 2 s of overhead, 1 s for each of two epochs
    assert Factors.of([]) == Factors(1.0, 1.0, 1.0)
    one = Factors.of([(candidate, Actual(4.0, 1.0, 0.5))])
    assert one.overhead == pytest.approx(2 ** (1 / 3))
    assert one.first_epoch == pytest.approx(1.0)
    assert one.steady == pytest.approx(0.5 ** (1 / 3))
    three = Factors.of([(candidate, Actual(2 * factor, 1.0, 3.0)) for factor in (100.0, 1.5, 0.1)])
    assert three.overhead == pytest.approx(1.5 ** (3 / 5))  # one outlier moves no median
    assert three.steady == pytest.approx(3 ** (3 / 5))
    two = Factors.of([(candidate, Actual(2 * factor, 1.0, 1.0)) for factor in (2.0, 8.0)])
    assert two.overhead == pytest.approx(4 ** (2 / 4))  # the middle in logs


def test_many_runs_that_all_take_twice_as_long_are_believed():
    factors = Factors.of([(light_run(16, 4.0), Actual(4.0, 2.0, 2.0))] * 98)
    assert factors.steady == pytest.approx(2**0.98)


def test_a_part_that_nothing_was_predicted_for_has_no_factor():
    (free,) = [Factors(0.0, 1.0, 1.0).applied(light_run(16, 4.0))]
    assert Factors.of([(free, Actual(3.0, 2.0, 0.0))]) == Factors(1.0, pytest.approx(2 ** (1 / 3)), 1.0)


def test_each_part_is_corrected_by_its_own_factor_and_its_error_with_it():
    candidate = light_run(16, 4.0, sd=0.2)
    corrected = Factors(2.0, 3.0, 0.5).applied(candidate)
    assert corrected.total_sec == pytest.approx(2 * 2 + 3 * 1 + 0.5 * 1)
    assert corrected.sd_sec == pytest.approx(2 * candidate.sd_sec)
    assert corrected.value == candidate.value


def test_what_the_runs_told_of_the_day_is_no_longer_uncertain(schedule_of):
    schedule = schedule_of([light_run(size, 1.0) for size in range(16, 24)], margin=MARGIN)
    assert schedule.margin == MARGIN
    for run in schedule.plan.chosen[:2]:
        schedule.finish(run, took(run))
    assert schedule.margin.common_sd == pytest.approx(0.05 * math.sqrt(1 / 2))
    assert schedule.margin.quantile == MARGIN.quantile


# --- in the plan's order ----------------------------------------------------------------------------------------------


def test_runs_come_in_the_order_of_the_plan_and_what_was_left_out_stays_out(schedule_of):
    schedule = schedule_of([light_run(size, 5.0) for size in (64, 16, 32)], [light_run(8, 1.0)], replans=False)
    assert carried_out(schedule, 60.0) == ([64, 16, 32], 15.0)


def test_a_run_that_would_break_the_budget_is_passed_over_for_later_ones_that_fit(schedule_of):
    schedule = schedule_of([light_run(16, 10.0), light_run(32, 30.0), light_run(64, 10.0)], replans=False)
    assert carried_out(schedule, 25.0) == ([16, 64], 20.0)
    assert sizes(schedule.waiting) == [32]


def test_whether_a_run_fits_counts_its_margin_and_what_the_runs_before_took(schedule_of):
    chosen = [light_run(16, 10.0, sd=1.0), light_run(32, 10.0, sd=1.0)]
    schedule = schedule_of(chosen, replans=False, margin=MARGIN)
    first, second = schedule.waiting
    upper = 10 + MARGIN.quantile * (0.05 * 10 + 1.0)
    assert schedule.upper(first) == pytest.approx(upper)
    assert schedule.next_run(upper - 0.01) is None
    assert schedule.next_run(upper + 0.01) is first
    schedule.finish(first, took(first, 8.0))  # the cube root of 8 is believed
    assert schedule.expected_sec(second) == pytest.approx(20.0)
    assert schedule.upper(second) > 20 + MARGIN.quantile * 2.0


def test_what_failed_is_dropped_and_not_learned_from(schedule_of):
    schedule = schedule_of([light_run(16, 5.0), light_run(32, 5.0)], replans=False)
    schedule.drop([schedule.waiting[0].planned.run_id, "a run of another plan"])
    assert carried_out(schedule, 60.0) == ([32], 5.0)


# --- a budget of energy -----------------------------------------------------------------------------------------------


def test_what_runs_measured_of_their_energy_is_believed_of_the_others_as_their_times_are(schedule_of):
    runs = priced([light_run(size, 10.0) for size in (16, 32, 64)], watts=360.0, sd=0.0)
    schedule = schedule_of(runs, replans=False, budget=Budget(0.01, KWH))
    first, second, third = schedule.waiting
    assert schedule.expected(second) == pytest.approx(1e-3)
    schedule.finish(first, took(first))  # without a meter
    assert schedule.expected(second) == pytest.approx(1e-3)
    schedule.finish(second, took(second, 8.0), 8.0)
    assert schedule.energy_factor == pytest.approx(2.0)
    assert schedule.expected_sec(third) == pytest.approx(10 * 8 ** (1 / 4))  # the median of 1 and 8, half believed
    assert schedule.expected(third) == pytest.approx(2e-4 * schedule.expected_sec(third))
    assert schedule.upper(third) == schedule.expected(third)
    assert schedule.next_run(schedule.expected(third) - 1e-6) is None
    assert schedule.next_run(schedule.expected(third) + 1e-6) is third


# --- planned again ----------------------------------------------------------------------------------------------------


def test_nothing_is_planned_again_before_a_run_has_ended(schedule_of):
    schedule = schedule_of([light_run(16, 10.0, 1.0)], [light_run(32, 1.0, 9.0)])  # a plan that is none of the best
    assert sizes([schedule.next_run(60.0)]) == [16]
    assert sizes(schedule.waiting) == [16]


def test_where_runs_take_as_long_as_predicted_planning_again_changes_nothing(schedule_of):
    for seed in range(5):
        plan = make_plan(random_runs(seed), Budget(40.0), ACC)
        schedule = schedule_of(plan.chosen, plan.excluded, value="acc", budget_sec=40.0)
        done, used = carried_out(schedule, 40.0)
        assert done == [c.config.batch_size for c in plan.chosen]
        assert used <= 40


def test_slow_runs_cost_the_least_valuable_ones(schedule_of):
    chosen = [light_run(16, 10.0, 5.0), *(light_run(32 + i, 10.0, 4.0 - i) for i in range(4))]
    schedule = schedule_of(chosen, value="acc")
    schedule.finish(schedule.waiting[0], took(schedule.waiting[0], 3.0))
    assert schedule.next_run(30.0) is not None
    assert sizes(schedule.waiting) == [32, 33]  # at 3 ** (1 / 3) = 1.44 times, only two of 10 s fit 30 s
    assert sizes(schedule.spare) == [34, 35]
    done, used = carried_out(schedule, 30.0, 1.2)
    assert done[1:] == [32, 33]
    assert used <= 30


def test_quick_runs_make_room_for_what_was_left_out(schedule_of):
    schedule = schedule_of(
        [light_run(16, 20.0, 5.0), light_run(32, 20.0, 4.0)], [light_run(64, 20.0, 3.0)], value="acc"
    )
    done, used = carried_out(schedule, 40.0, 0.5)
    assert done == [16, 32, 64]
    assert used == 30


def test_time_that_a_failure_left_over_is_planned_again_as_well(schedule_of):
    schedule = schedule_of(
        [light_run(16, 20.0, 5.0), light_run(32, 20.0, 4.0)], [light_run(64, 20.0, 3.0)], value="acc"
    )
    schedule.drop([schedule.waiting[0].planned.run_id])
    assert carried_out(schedule, 40.0)[0] == [32, 64]


@pytest.mark.parametrize("value", ["acc", "count", "best_acc", "info"])
@pytest.mark.parametrize("margin", [NO_MARGIN, MARGIN])
def test_what_must_be_done_stays_as_long_as_it_fits(schedule_of, value, margin):
    must = [light_run(16, 4.0, 0.1), light_run(32, 20.0, 0.1), light_run(64, 6.0, 0.1)]
    chosen = [light_run(8, 1.0, 0.2), *must]
    spare = [light_run(128, 2.0, 0.9), light_run(256, 3.0, 0.8)]
    schedule = schedule_of(chosen, spare, value=value, must=must, margin=margin)
    schedule.finish(schedule.waiting[0], took(schedule.waiting[0]))
    schedule.next_run(35.0)
    assert {16, 32, 64} <= set(sizes(schedule.waiting))
    schedule.next_run(20.0)
    assert {16, 64} <= set(sizes(schedule.waiting))  # the longest is given up, not all three
    assert 32 not in sizes(schedule.waiting)
    schedule.next_run(35.0)
    assert {16, 32, 64} <= set(sizes(schedule.waiting))  # as it fits again
    schedule.next_run(5.0)
    assert 16 in sizes(schedule.waiting)
    assert schedule.next_run(0.5) is None
    assert schedule.waiting == []


@pytest.mark.parametrize("value", ["acc", "best_acc", "info"])
def test_musts_may_be_all_that_is_left(schedule_of, value):
    must = [light_run(16, 4.0), light_run(32, 4.0)]
    schedule = schedule_of([light_run(8, 1.0), *must], value=value, must=must)
    schedule.finish(schedule.waiting[0], took(schedule.waiting[0]))
    assert carried_out(schedule, 20.0)[0] == [8, 16, 32]


def test_best_acc_goes_on_to_the_next_best_only_while_the_best_is_not_reached(schedule_of):
    runs = [light_run(16, 30.0, 0.9), light_run(32, 10.0, 0.8), light_run(64, 5.0, 0.7)]
    done = schedule_of(runs[:1], runs[1:], value="best_acc")
    assert carried_out(done, 60.0) == ([16], 30.0)
    failed = schedule_of(runs[:1], runs[1:], value="best_acc")
    failed.drop([failed.waiting[0].planned.run_id])
    assert carried_out(failed, 30.0) == ([32], 10.0)
    failed_late = schedule_of(runs[:1], runs[1:], value="best_acc")
    failed_late.drop([failed_late.waiting[0].planned.run_id])
    assert carried_out(failed_late, 8.0) == ([64], 5.0)


def test_info_learns_from_what_is_done_and_measures_nothing_twice(schedule_of):
    candidates = random_runs(3)
    known = Knowledge([candidates[0].config], 1000)
    plan = make_plan(candidates[1:], Budget(30.0), INFO, knowledge=known)
    schedule = schedule_of(plan.chosen, [*plan.excluded, candidates[0]], value="info", knowledge=known)
    done, used = carried_out(schedule, 45.0, 0.9)
    assert used <= 45
    assert len(done) == len(set(done)) > len(plan.chosen)
    assert candidates[0].config.batch_size not in done


def test_repeats_are_runs_of_their_own_and_what_is_left_of_them_is_chosen_as_one(schedule_of):
    chosen = [light_run(16, 5.0, 2.0, repeats=2), light_run(32, 5.0, 3.0, repeats=2)]
    schedule = schedule_of(chosen, [light_run(64, 5.0, 0.5, repeats=2)], value="acc")
    assert sizes(schedule.waiting) == [16, 16, 32, 32]
    assert len({run.planned.run_id for run in (*schedule.waiting, *schedule.spare)}) == 6
    assert {run.candidate.value for run in schedule.waiting} == {1.0, 1.5}
    assert {run.candidate.total_sec for run in schedule.waiting} == {5.0}
    done, used = carried_out(schedule, 25.0)
    assert (sorted(done), used) == ([16, 16, 32, 32], 20.0)  # half of the last pair would fit: all or none
    assert len({run.planned.run_id for run, _ in schedule.finished}) == 4


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("margin", [NO_MARGIN, MARGIN])
def test_a_new_plan_keeps_what_is_left_and_loses_no_run(schedule_of, seed, margin):
    runs = random_runs(seed)
    plan = make_plan(runs, Budget(40.0), ACC, margin)
    schedule = schedule_of(plan.chosen, plan.excluded, value="acc", margin=margin)
    first = schedule.next_run(40.0)
    schedule.finish(first, took(first, 1.3))
    for left_sec in (60.0, 30.0, 10.0, 1.0, 0.0, -5.0):
        run = schedule.next_run(left_sec)
        corrected = [schedule.factors.applied(run.candidate) for run in schedule.waiting]
        expected = [c.total_sec for c in corrected]
        assert schedule.margin.upper(expected, [c.sd_sec for c in corrected]) <= max(left_sec, 0) + 1e-9
        assert sorted(sizes([*schedule.waiting, *schedule.spare, first])) == sorted(c.config.batch_size for c in runs)
        assert (run is None) == (not schedule.waiting)
