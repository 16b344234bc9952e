"""Value against budget: the curve is that of plans made for each budget, and neighbours lie around the one asked."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from epochcast.planner.costs.budget import KWH, Budget
from epochcast.planner.costs.values import VALUES
from epochcast.planner.output.value_curve import BEFORE, BEHIND, STEPS_SEC, neighbours, value_curve
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.plan.plan import NOTHING_KNOWN
from epochcast.planner.request.request import Answer
from epochcast.schema import Conditions
from tests.support.plans import SUMS, priced
from tests.support.rows import random_runs

AT_90 = Margin(1.2816, 0.003)


def answer_of(candidates, budget, value="acc", margin=NO_MARGIN, must=()):
    plan = make_plan(candidates, budget if isinstance(budget, Budget) else Budget(budget), VALUES[value], margin, must)
    return Answer(plan, None, [], list(must), list(candidates), NOTHING_KNOWN, Conditions(), {})


def at(curve, budget_sec):
    """The value of a curve at a budget."""
    return curve.value[np.searchsorted(curve.budget, budget_sec, side="right") - 1]


@pytest.mark.parametrize("n_musts", [0, 2])
@pytest.mark.parametrize("value", SUMS)
@pytest.mark.parametrize("seed", range(3))
def test_the_exact_curve_is_that_of_the_plans_for_each_budget(seed, value, n_musts):
    candidates, must = random_runs(seed, n=12), random_runs(seed + 9, n=n_musts, first_batch=100)
    if value == "count":
        candidates, must = ([dataclasses.replace(c, value=1.0) for c in runs] for runs in (candidates, must))
    answer = answer_of(candidates, 60.0, value, must=must)
    curve = value_curve(answer, 150.0)
    assert (np.diff(curve.budget) > 0).all()
    assert (np.diff(curve.value) > 0).all()
    draw = random.Random(seed)
    rises = [b for b in curve.budget if b > max(20.0, sum(c.total_sec for c in must))]
    budgets = [draw.uniform(45, 150) for _ in range(30)] + draw.sample(rises, min(20, len(rises)))
    for budget_sec in (*budgets, 60.0, 150.0):
        assert at(curve, round(budget_sec, 3)) == answer.at(round(budget_sec, 3)).value_dp
    assert at(curve, 60.0) == answer.plan.value_dp


def test_with_many_candidates_the_curve_promises_no_more_than_there_is_and_little_less():
    answer = answer_of(random_runs(3, n=300), 600.0)
    curve = value_curve(answer, 1200.0)
    for budget_sec in (100.0, 601.7, 1200.0):
        best = answer.at(budget_sec).value_dp
        assert 0.99 * best <= at(curve, budget_sec) <= best


@pytest.mark.parametrize(("value", "margin"), [*((v, AT_90) for v in VALUES), ("best_acc", NO_MARGIN)])
def test_other_curves_are_made_of_plans_and_hold_the_one_asked_for(value, margin):
    answer = answer_of(random_runs(1, n=10), 40.0, value, margin)
    curve = value_curve(answer, 80.0)
    assert curve.budget[-1] == 80
    assert (np.diff(curve.budget) > 0).all()
    assert at(curve, 40.0) == answer.plan.value_dp
    for budget_sec, reached in list(zip(curve.budget, curve.value, strict=True))[3::9]:
        assert reached == answer.at(float(budget_sec)).value_dp
    if value != "info":  # a greedy choice may lose a little by more room
        assert (np.diff(curve.value) >= 0).all()


@pytest.mark.parametrize("budget_sec", [12.0, 45.0, 300.0, 3600.0, 86_400.0, 604_800.0])
def test_neighbours_lie_around_the_budget_in_one_round_step(budget_sec):
    answer = answer_of(random_runs(2), budget_sec)
    around = neighbours(answer)
    budgets = [b for b, _ in around]
    assert dict(around)[budget_sec] is answer.plan
    steps = np.diff(budgets)
    assert steps == pytest.approx(steps[0])
    assert min(abs(steps[0] - step) for step in STEPS_SEC) < 1e-6
    assert budgets[-1] == pytest.approx(budget_sec + BEHIND * steps[0])
    assert min(budgets) > 0
    assert len(budgets) <= BEFORE + 1 + BEHIND
    for budget, plan in around:
        if plan is not None:
            assert plan.upper <= budget
            assert plan.value_dp == answer.at(budget).value_dp


def test_where_nothing_fits_a_neighbour_has_no_plan():
    candidates = random_runs(2)
    cheapest = min(c.total_sec for c in candidates)
    around = neighbours(answer_of(candidates, cheapest + 0.01))
    assert around[0][1] is None
    assert around[-1][1] is not None


# --- other units than seconds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, AT_90], ids=["", "margin"])
def test_the_curve_of_another_unit_is_that_of_its_plans(margin):
    candidates = priced(random_runs(5, n=10), 5)
    everything = sum(c.cost for c in candidates)
    answer = answer_of(candidates, Budget(everything / 2, KWH), margin=margin)
    curve = value_curve(answer, everything)
    assert curve.is_exact == (not margin.quantile)
    assert curve.budget[-1] <= everything
    for budget in (0.4 * everything, everything / 2, *curve.budget[4::7]):
        if margin.quantile and budget not in curve.budget:
            continue
        assert at(curve, budget) == answer.at(float(budget)).value_dp


@pytest.mark.parametrize("amount", [1e-4, 0.0123, 0.5, 4.0, 99.0, 12_345.0])
def test_neighbours_in_another_unit_lie_in_steps_of_one_two_or_five(amount):
    candidates = priced(random_runs(2), watts=3.6e6 * amount / 40)  # some of the runs fit, whatever the budget
    answer = answer_of(candidates, Budget(amount, KWH))
    budgets = [b for b, _ in neighbours(answer)]
    steps = np.diff(budgets)
    assert steps == pytest.approx(steps[0])
    assert f"{steps[0]:.6e}"[:8] in ("1.000000", "2.000000", "5.000000")
    assert amount in budgets
    assert 0.3 * amount <= BEHIND * steps[0] <= 2 * amount
