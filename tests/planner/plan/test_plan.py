"""A plan fits its budget with its margin, is worth what it says, and comes in an order worth stopping at any time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import re
from dataclasses import astuple

import numpy as np
import pytest

from epochcast.model.selection.experimental_design import Field
from epochcast.planner.costs.budget import KGCO2, KWH, SECONDS, USD, Budget
from epochcast.planner.costs.values import ACC, BEST_ACC, COUNT, INFO, VALUES
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin, best_within
from epochcast.planner.plan.plan import Knowledge, NothingFitsError
from epochcast.schema import TRAIN_N, RunConfig
from tests.support.plans import SUMS, priced
from tests.support.rows import random_runs, run_costing

AT_90 = Margin(1.2816, 0.003)
ROUNDING = 1e-9  # seconds: the same floats added in another order


def with_worth(candidates, value):
    return [dataclasses.replace(c, value=1.0) for c in candidates] if value == "count" else candidates


def subsets(candidates):
    return [s for size in range(len(candidates) + 1) for s in itertools.combinations(candidates, size)]


def fits(candidates, budget_sec, margin):
    if not margin.quantile:
        return sum(SECONDS.up(c.total_sec) for c in candidates) <= SECONDS.down(budget_sec)
    return margin.upper([c.total_sec for c in candidates], [c.sd_sec for c in candidates]) <= budget_sec


# --- the best set ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("value", SUMS)
@pytest.mark.parametrize("seed", range(3))  # no, one and two runs that must be done
def test_a_plan_is_the_best_set_that_fits_and_more_budget_never_lowers_its_value(seed, value, margin):
    candidates = with_worth(random_runs(seed), value)
    must = with_worth(random_runs(seed + 1000, n=seed % 3, first_batch=100), value)
    sets = [(*must, *s) for s in subsets(candidates)]
    last = 0.0
    for budget_sec in (45.0, 60.123, 400.0):
        plan = make_plan(candidates, Budget(budget_sec), VALUES[value], margin, must)
        assert (plan.is_proven, plan.method, plan.budget.amount, plan.value.name) == (True, "exact", budget_sec, value)
        assert plan.bound == plan.value_dp
        assert 0 <= plan.total_sec - math.fsum(c.total_sec for c in plan.chosen) < 1e-3 * len(plan.chosen)
        assert plan.total_sec <= plan.upper
        assert plan.upper <= budget_sec + ROUNDING
        assert plan.budget_used == plan.upper / budget_sec
        # values are rounded for the search: to 1e-6 (acc), 1e-3 (thr), 1 (count, exact)
        tolerance = len(candidates) * {"acc": 1e-6, "thr": 1e-3, "count": 0}[value]
        assert plan.value_dp == pytest.approx(plan.value_resummed, abs=tolerance)
        assert plan.value_resummed == math.fsum(c.value for c in plan.chosen)
        best = max(math.fsum(c.value for c in s) for s in sets if fits(s, budget_sec, margin))
        assert plan.value_resummed == pytest.approx(best, abs=tolerance)
        assert plan.value_dp >= last
        last = plan.value_dp
        assert sorted(plan.chosen + plan.excluded, key=lambda c: c.config) == sorted(
            must + candidates, key=lambda c: c.config
        )
    assert plan.excluded == []  # the last budget holds them all


@pytest.mark.parametrize("seed", range(10))
def test_a_plan_with_a_margin_is_worth_no_more_than_one_without(seed):
    candidates = random_runs(seed, n=20)
    values = [make_plan(candidates, Budget(60.0), ACC, Margin(q, 0.003)).value_dp for q in (0, 0.8, 1.3, 3)]
    assert values == sorted(values, reverse=True)


def test_a_budget_that_is_used_to_the_millisecond_is_no_contradiction():
    assert math.fsum([0.1] * 3) > 0.3  # as binary numbers sum
    runs = [run_costing(0.1, config=(2, 16, b)) for b in (2, 3, 4)]
    assert len(make_plan(runs, Budget(0.3), COUNT).chosen) == 3
    assert make_plan(runs, Budget(0.2999), COUNT).value_dp == 2


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
def test_runs_that_must_be_done_and_the_rest_meet_a_budget_exactly(margin):
    """Parts of a millisecond of several musts are rounded one by one, as those of all other runs are."""
    for seed in range(100):
        must = with_worth(random_runs(seed, n=3, first_batch=100), "count")
        runs = [
            run_costing(round(c.total_sec, 3), 1.0, c.sd_sec, (2, 16, c.config.batch_size)) for c in random_runs(seed)
        ]
        every = [*must, *runs[:4]]
        budget_sec = math.ceil(1000 * math.fsum(c.total_sec for c in every)) / 1000
        if margin.quantile:
            budget_sec = margin.upper([c.total_sec for c in every], [c.sd_sec for c in every])
        plan = make_plan(runs, Budget(budget_sec), COUNT, margin, must)  # a search that allows more contradicts itself
        assert plan.upper <= budget_sec + ROUNDING
        assert plan.value_dp >= 6


@pytest.mark.parametrize("unit", [SECONDS, KWH, USD, KGCO2])
@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("value", ["acc", "count", "best_acc", "info"])
def test_a_budget_of_a_plans_own_total_gives_that_plan_and_a_little_less_says_what_is_missing(value, margin, unit):
    for seed in (0, 2):  # without and with runs that must be done, for each of 32 kinds of plans
        draw = random.Random(seed)
        scale = draw.choice([1e-3, 1.0, 1.0, 1e3])
        runs = [
            run_costing(c.total_sec * scale, c.value, scale * (c.sd_sec or 0.0), astuple(c.config))
            for c in with_worth([*random_runs(seed, 9), *random_runs(seed + 900, seed % 3, first_batch=100)], value)
        ]
        runs = runs if unit == SECONDS else priced(runs, seed, watts=3e3)
        candidates, must = runs[:9], runs[9:]
        everything = math.fsum(c.cost for c in runs)
        for share in (0.5, 0.8, 1.1):
            plan = make_plan(candidates, Budget(share * everything, unit), VALUES[value], margin, must)
            totals = [plan.cost, plan.upper] if not margin.quantile else [plan.upper]
            totals += [json.loads(json.dumps(total)) for total in totals]
            if not margin.quantile:  # or as a user adds up what the file says of each run
                totals.append(sum(unit.charged(c.cost) for c in plan.chosen))
                totals.append(sum(unit.charged(c.cost) for c in reversed(plan.chosen)))
            for total in totals:
                again = make_plan(candidates, Budget(total, unit), VALUES[value], margin, must)
                assert again.value_dp >= plan.value_dp
                assert again.is_proven == plan.is_proven
                assert again.upper <= total * (1 + 2e-12)
        needed = must or [min(candidates, key=lambda c: (margin.upper([c.cost], [c.cost_sd]), c.config))]
        least = make_plan([], Budget(10 * everything, unit), VALUES[value], margin, needed).upper
        with pytest.raises(NothingFitsError) as error:
            make_plan(candidates, Budget(least - 1 / unit.fineness, unit), VALUES[value], margin, must)
        numbers = re.findall(r"[\d.,e-]*\d(?= " + unit.word + ")", str(error.value))
        first, second = (float(number.replace(",", "")) for number in numbers)
        own, takes = (second, first) if must else (first, second)
        assert own < takes


# --- other units than seconds -----------------------------------------------------------------------------------------


def energy_fits(candidates, budget, margin):
    if not margin.quantile:
        return sum(budget.unit.up(c.cost) for c in candidates) <= budget.unit.down(budget.amount)
    return margin.upper([c.cost for c in candidates], [c.cost_sd for c in candidates]) <= budget.amount


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("unit", [KWH, USD, KGCO2])
@pytest.mark.parametrize("seed", range(3))  # no, one and two runs that must be done
def test_in_every_unit_a_plan_is_that_of_brute_force_and_more_budget_never_lowers_it(seed, unit, margin):
    candidates = priced(random_runs(seed, n=8), seed)
    must = priced(random_runs(seed + 1000, n=seed % 3, first_batch=100), seed + 1)
    sets = [(*must, *s) for s in subsets(candidates)]
    everything = sum(c.cost for c in [*candidates, *must])
    last = 0.0
    for share in (0.6, 0.75, 0.9, 1.2):
        budget = Budget(share * everything, unit)
        plan = make_plan(candidates, budget, ACC, margin, must)
        assert (plan.is_proven, plan.bound, plan.budget) == (True, plan.value_dp, budget)
        assert -1e-15 <= plan.cost - math.fsum(c.cost for c in plan.chosen) < 1e-8 * len(plan.chosen)
        assert plan.cost <= plan.upper <= budget.amount * (1 + ROUNDING)
        best = max(math.fsum(c.value for c in s) for s in sets if energy_fits(s, budget, margin))
        assert plan.value_resummed == pytest.approx(best, abs=len(candidates) * 1e-6)
        assert plan.value_dp >= last
        last = plan.value_dp
        for run, lacking in plan.missed():
            more = Budget(budget.amount + lacking + 2 / unit.fineness, unit)
            assert lacking > 0
            assert energy_fits([*plan.chosen, run], more, margin)
    assert plan.excluded == []


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("seed", range(10))
def test_at_a_constant_power_a_plan_in_kwh_is_that_in_seconds_at_the_converted_budget(seed, margin):
    candidates = [  # in whole milliseconds: else one search rounds away what the finer one does not
        run_costing(round(c.total_sec, 3), c.value, c.sd_sec, (2, 16, c.config.batch_size))
        for c in random_runs(seed, n=12)
    ]
    in_kwh = priced(candidates, watts=360.0, sd=0.0)  # 0.1 Wh a second
    for budget_sec in (20.0, 45.0, 70.0):
        one = make_plan(candidates, Budget(budget_sec), ACC, margin)
        other = make_plan(in_kwh, Budget(budget_sec / 10_000, KWH), ACC, margin)
        assert [c.config for c in other.chosen] == [c.config for c in one.chosen]
        assert other.value_dp == one.value_dp
        # each rounded up to its own whole numbers
        assert other.upper == pytest.approx(one.upper / 10_000, rel=1e-9, abs=1e-8 * len(one.chosen))
        assert other.total_sec == pytest.approx(one.total_sec, rel=1e-14)


def test_where_power_differs_the_plan_in_kwh_is_another_than_that_in_seconds():
    hungry, frugal = run_costing(100.0, 0.6, 0.0), run_costing(150.0, 0.6, 0.0, (2, 16, 128))
    runs = [*priced([hungry], watts=300.0), *priced([frugal], watts=100.0)]
    (in_sec,) = make_plan([hungry, frugal], Budget(160.0), ACC).chosen
    (in_kwh,) = make_plan(runs, Budget(160 * 150 / 3.6e6, KWH), ACC).chosen
    assert (in_sec.config, in_kwh.config) == (hungry.config, frugal.config)


def test_order_ties_and_what_teaches_most_go_by_the_unit_of_the_budget_too():
    hungry, frugal = run_costing(100.0, 0.6, 0.0), run_costing(150.0, 0.6, 0.0, (2, 16, 128))
    runs = [*priced([hungry], watts=300.0), *priced([frugal], watts=100.0)]
    budget = Budget(1.0, KWH)
    assert [c.config for c in make_plan(runs, budget, ACC).chosen] == [frugal.config, hungry.config]
    assert [c.config for c in make_plan([hungry, frugal], Budget(1e3), ACC).chosen] == [hungry.config, frugal.config]
    assert [c.config for c in make_plan(runs, budget, BEST_ACC).chosen] == [frugal.config]
    slow = priced_grid(0)[4]
    twin = dataclasses.replace(
        slow, overhead=slow.overhead.times(0.5), config=RunConfig(3, 32, 257)
    )  # as good, quicker
    others = priced(priced_grid(0)[:2])
    pool = [*priced([twin], watts=1000.0), *priced([slow], watts=100.0), *others]
    allowed = Budget(slow.total_sec * 1000 / 3.6e6, KWH)
    first = make_plan(pool, allowed, INFO).chosen
    assert slow.config in {c.config for c in first}
    assert twin.config not in {c.config for c in first}


def test_the_error_of_the_energy_widens_the_margin_and_what_all_runs_share_only_the_band():
    runs = random_runs(1, n=4)
    budget = Budget(1.0, KWH)
    plain, own, shared = (
        make_plan(priced(runs, sd=sd, half=half), budget, ACC, AT_90)
        for sd, half in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.5))
    )
    assert own.upper > plain.upper == shared.upper
    assert plain.band.low == plain.band.value == plain.band.high == plain.cost
    assert (shared.band.low, shared.band.high) == pytest.approx((0.5 * plain.cost, 1.5 * plain.cost))
    unknown = make_plan(priced(runs, half=None), budget, ACC, AT_90)
    assert (unknown.band.low, unknown.band.high) == (None, None)
    assert make_plan(runs, Budget(1e3), ACC).band is None


def test_an_own_error_of_the_energy_adds_as_squares_and_an_unknown_one_adds_nothing():
    run = run_costing(100.0, sd=3.0)
    (kwh,) = priced([run], watts=360.0, sd=0.04)
    assert kwh.cost == pytest.approx(0.01)
    assert kwh.cost_sd == pytest.approx(1e-4 * math.hypot(3.0, 4.0))
    unknown = dataclasses.replace(kwh, price=dataclasses.replace(kwh.price, sd=None))
    assert unknown.cost_sd == pytest.approx(3e-4)
    assert priced([run_costing(100.0, sd=None)])[0].cost_sd is None


def test_errors_name_the_unit_of_the_budget():
    runs = priced([run_costing(100.0)], watts=360.0)
    with pytest.raises(ValueError, match=r"the budget of 0\.00500 kWh is smaller than .* takes 0\.0100 kWh\."):
        make_plan(runs, Budget(0.005, KWH), COUNT)
    with pytest.raises(ValueError, match=r"must be done take 0\.0100 kWh, the budget is 0\.00500 kWh\. Raise it"):
        make_plan([], Budget(0.005, KWH), COUNT, must=runs)
    with pytest.raises(ValueError, match=r"nothing is left of the budget \(0 USD\)"):
        make_plan(runs, Budget(0.0, USD), COUNT)


# --- what must be done, and the order --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_what_must_be_done_comes_first_and_then_value_per_second_falls(value):
    for seed in range(5):
        candidates, must = random_runs(seed, n=12), random_runs(seed + 100, n=2, first_batch=100)
        plan = make_plan(candidates, Budget(90.0), VALUES[value], AT_90, must)
        assert {c.config for c in plan.chosen[:2]} == {c.config for c in must}
        assert not {c.config for c in plan.chosen[2:]} & {c.config for c in must}
        if value in SUMS:
            for part in (plan.chosen[:2], plan.chosen[2:]):
                density = [c.value / c.total_sec for c in part]
                assert density == sorted(density, reverse=True)
        assert plan.upper <= 90


@pytest.mark.parametrize("value", VALUES)
def test_musts_may_be_all_there_is(value):
    must = random_runs(1, n=2)
    plan = make_plan([], Budget(100.0), VALUES[value], AT_90, must)
    assert len(plan.chosen) == 2
    assert plan.excluded == []
    with pytest.raises(ValueError, match=r"runs that must be done take .* s with the margin, the budget is 1\.00 s"):
        make_plan([], Budget(1.0), VALUES[value], AT_90, must)


def test_a_budget_below_every_run_names_the_cheapest():
    runs = [run_costing(5.0), run_costing(4.0, sd=1.0, config=(2, 16, 7))]
    with pytest.raises(ValueError, match=r"budget of 3\.00 s is smaller than .* cheapest, \(2,16,7\),\s*takes 4\.00 s"):
        make_plan(runs, Budget(3.0), COUNT)
    with pytest.raises(ValueError, match=r"cheapest, \(2,16,64\), takes 5\.02 s with the margin"):
        make_plan(runs, Budget(5.01), COUNT, AT_90)  # the other may take 5.29 s


def test_runs_that_are_worth_nothing_are_no_plan():
    with pytest.raises(ValueError, match="no run that fits the budget is worth anything by acc"):
        make_plan([run_costing(5.0, value=0.0)], Budget(10.0), ACC)


def test_a_run_whose_error_is_unknown_has_no_margin():
    with pytest.raises(ValueError, match=r"the error of \(2,16,64\) is unknown: no margin can be told"):
        make_plan([run_costing(5.0, sd=None)], Budget(10.0), COUNT, AT_90)
    assert make_plan([run_costing(5.0, sd=None)], Budget(10.0), COUNT).upper == 5


# --- what was missed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("value", SUMS)
def test_the_best_that_were_left_out_fit_beside_the_plan_with_the_seconds_that_it_lacks(value, margin):
    for seed in range(10):
        candidates = with_worth(random_runs(seed, n=14), value)
        plan = make_plan(candidates, Budget(40.0), VALUES[value], margin)
        missed = plan.missed()
        assert len(missed) == min(5, len(plan.excluded))
        assert [c.value for c, _ in missed] == sorted((c.value for c in plan.excluded), reverse=True)[:5]
        for run, seconds in missed:
            assert seconds > 0  # else it would be in the plan
            together = [*plan.chosen, run]
            assert fits(together, plan.budget.amount + seconds + ROUNDING, margin)
            assert not fits(together, plan.budget.amount + seconds - 0.001 - ROUNDING, margin)
            assert (
                make_plan(candidates, Budget(40.0 + seconds + ROUNDING), VALUES[value], margin).value_dp > plan.value_dp
            )


def test_only_as_many_as_asked_for_are_named():
    plan = make_plan(random_runs(3, n=14), Budget(20.0), ACC)
    assert len(plan.missed(2)) == 2
    assert plan.missed(100)[:2] == plan.missed(2)
    assert len(plan.missed(100)) == len(plan.excluded) > 5
    assert make_plan(random_runs(3, n=14), Budget(1000.0), ACC).missed() == []


# --- never passed over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize(
    "lie",
    [
        lambda s: dataclasses.replace(s, value=s.value + 1),
        lambda s: dataclasses.replace(s, value=s.value - 1),
        lambda s: dataclasses.replace(s, indices=s.indices[1:]),
        lambda s: dataclasses.replace(s, indices=(0, 1, 2, 3), value=4),
    ],
    ids=["worth more", "worth less", "a run less", "a run too many"],
)
def test_a_search_that_contradicts_its_own_set_is_never_passed_on(monkeypatch, lie, margin):
    candidates = [run_costing(5.0, config=(2, 16, b)) for b in (2, 3, 4, 5)]
    monkeypatch.setattr("epochcast.planner.plan.make_plan.best_within", lambda *given: lie(best_within(*given)))
    with pytest.raises(RuntimeError, match="the plan contradicts itself"):
        make_plan(candidates, Budget(16.0), COUNT, margin)


def test_what_is_not_proven_is_not_called_so(monkeypatch):
    candidates = random_runs(0, n=20, sd=0.3)
    proven = make_plan(candidates, Budget(30.0), ACC, AT_90)
    monkeypatch.setattr("epochcast.planner.plan.margin._MAX_SEARCHES", 1)
    plan = make_plan(candidates, Budget(30.0), ACC, AT_90)
    assert proven.is_proven
    assert not plan.is_proven
    assert plan.value_dp <= proven.value_dp <= plan.bound


# --- the best single run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("seed", range(10))
def test_best_acc_is_the_best_run_that_can_be_afforded_and_the_cheapest_among_equals(seed, margin):
    candidates = [dataclasses.replace(c, value=round(c.value, 1)) for c in random_runs(seed, n=20)]
    for budget_sec in (8.0, 12.0, 16.0, 50.0):
        plan = make_plan(candidates, Budget(budget_sec), BEST_ACC, margin)
        (chosen,) = plan.chosen
        affordable = [c for c in candidates if fits([c], budget_sec, margin)]
        assert chosen.value == plan.value_dp == plan.bound == max(c.value for c in affordable)
        assert chosen.total_sec == min(c.total_sec for c in affordable if c.value == chosen.value)
        assert (plan.is_proven, plan.method, len(plan.excluded)) == (True, "single", 19)


def test_best_acc_adds_nothing_to_a_must_that_is_as_good():
    must = [run_costing(5.0, value=0.7)]
    others = [run_costing(5.0, value=v, config=(2, 16, 32 + i)) for i, v in enumerate((0.6, 0.7, 0.8))]
    assert make_plan(others[:2], Budget(100.0), BEST_ACC, NO_MARGIN, must).chosen == must
    assert make_plan(others, Budget(100.0), BEST_ACC, NO_MARGIN, must).chosen == [must[0], others[2]]
    assert make_plan(others, Budget(9.0), BEST_ACC, NO_MARGIN, must).chosen == must


# --- what teaches most -----------------------------------------------------------------------------------------------

GRID = [RunConfig(d, f, b) for d in (2, 3, 4) for f in (16, 32, 64) for b in (64, 256, 1024)]


def priced_grid(seed):
    draw = np.random.default_rng(seed)
    return [
        run_costing(float(s), 0.0, 0.02 * float(s), (c.depth, c.base_filters, c.batch_size))
        for s, c in zip(draw.uniform(5, 50, len(GRID)), GRID, strict=True)
    ]


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
@pytest.mark.parametrize("seed", [0, 3, 4])  # nothing measured, some with one outside of the grid, some of the grid
def test_an_info_plan_fits_repeats_nothing_measured_and_is_worth_no_less_than_its_best_single_run(seed, margin):
    candidates = priced_grid(seed)
    measured = GRID[: 4 * seed : 3] + [RunConfig(5, 128, 2048)] * (seed % 2)
    known = Knowledge(measured, TRAIN_N)
    everything = [*GRID, *(config for config in measured if config not in GRID)]

    def share(configs):
        return Field(everything, sorted({everything.index(c) for c in [*measured, *configs]}), TRAIN_N).known

    for budget_sec in (60.0, 200.0, 2000.0):
        plan = make_plan(candidates, Budget(budget_sec), INFO, margin, knowledge=known)
        configs = [c.config for c in plan.chosen]
        assert fits(plan.chosen, budget_sec, margin)
        assert len({*configs, *measured}) == len(configs) + len(measured)
        assert plan.value_dp == pytest.approx(share(configs) - share([]), abs=1e-9)  # sums of the same terms
        assert plan.value_dp == pytest.approx(plan.value_resummed, abs=1e-9)
        for k, run in enumerate(plan.chosen):
            assert run.value == pytest.approx(share(configs[: k + 1]) - share(configs[:k]), abs=1e-9)
        for c in candidates:
            if fits([c], budget_sec, margin):
                assert plan.value_dp >= share([c.config]) - share([]) - 1e-9
        assert (plan.is_proven, plan.bound, plan.method) == (False, None, "greedy")
        for run in plan.excluded:
            assert run.value == pytest.approx(share([*configs, run.config]) - share(configs), abs=1e-9)
            assert not fits([*plan.chosen, run], budget_sec, margin)
    assert plan.excluded == []


def test_an_info_plan_prefers_what_a_second_teaches_most():
    slow = priced_grid(0)[4]
    twin = dataclasses.replace(slow, overhead=slow.overhead.times(3), config=RunConfig(3, 32, 257))  # as good, dearer
    plan = make_plan([twin, slow, *priced_grid(0)[:2]], Budget(slow.total_sec + 1), INFO)
    assert twin.config not in {c.config for c in plan.chosen}


def test_where_all_is_measured_there_is_nothing_to_learn():
    with pytest.raises(ValueError, match="every candidate is measured already: info has nothing to add"):
        make_plan(priced_grid(0), Budget(100.0), INFO, knowledge=Knowledge(GRID, TRAIN_N))
