"""What another ten minutes (or kWh) would buy: the value of the best plan against the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epochcast.model.time_model.physics import Array
from epochcast.output.progress import progress
from epochcast.planner.costs.budget import SECONDS, Budget
from epochcast.planner.costs.values import Combination
from epochcast.planner.plan.knapsack import front
from epochcast.planner.plan.plan import NothingFitsError, Plan
from epochcast.planner.request.request import Answer

STEPS_SEC = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800)
BEFORE, BEHIND = 3, 6  # budgets shown below and above the one asked for
_POINTS = 40  # where the curve is made of plans
_FRONT_UNITS = 100_000  # of the budget, with more than _FEW candidates: lists are no longer than that
_FEW = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """Values from budgets on, both ascending; between two budgets it is that of the lower one, or not known exactly."""

    budget: Array
    value: Array
    is_exact: bool


def neighbours(answer: Answer) -> list[tuple[float, Plan | None]]:
    """Budgets around the one asked for, in round steps, each with its best plan; None where nothing fits."""
    budget = answer.plan.budget.amount
    step = min(_steps(answer.plan.budget), key=lambda amount: abs(np.log(amount * (BEHIND + 2) / budget)))
    budgets = [budget + k * step for k in range(-BEFORE, BEHIND + 1)]
    return [(b, answer.plan if b == budget else _plan_at(answer, b)) for b in budgets if b > 0]


def _steps(budget: Budget) -> Sequence[float]:
    """Round steps: those of a clock for seconds, else 1, 2, 5, 10, ... about the budget."""
    if budget.unit == SECONDS:
        return STEPS_SEC
    decade = math.floor(math.log10(budget.amount))
    return [factor * 10.0**exponent for exponent in range(decade - 2, decade + 1) for factor in (1, 2, 5)]


def _plan_at(answer: Answer, amount: float) -> Plan | None:
    try:
        return answer.at(amount)
    except NothingFitsError:
        return None


def value_curve(answer: Answer, up_to: float) -> Curve:
    """The value of the best plan for every budget up to `up_to`, in the unit of the plan.

    Sums without a margin come exactly from one run of the search without its bound (with many candidates in units of
    1/100,000 of the longest budget, costs rounded up); other plans are made at forty budgets.
    """
    plan = answer.plan
    if plan.value.combination is Combination.SUM and not plan.margin.quantile:
        return _exact_curve(answer, up_to)
    cheapest = min((c.cost for c in [*answer.must, *answer.candidates]), default=0.0)
    budgets = np.unique([*np.linspace(cheapest, up_to, _POINTS), plan.budget.amount])
    plans: list[Plan | None] = []
    say = progress("plans for other budgets")
    for number, budget in enumerate(budgets, start=1):
        plans.append(_plan_at(answer, float(budget)))
        say(number / len(budgets))
    return Curve(budgets, np.array([0.0 if p is None else p.value_dp for p in plans]), False)


def _exact_curve(answer: Answer, up_to: float) -> Curve:
    of_plan, unit = answer.plan.value, answer.plan.budget.unit
    must_cost = sum(unit.up(c.cost) for c in answer.must)
    must_value = sum(of_plan.whole(c) for c in answer.must)
    room = unit.down(up_to) - must_cost
    coarse = 1 if len(answer.candidates) <= _FEW else 1 + room // _FRONT_UNITS
    costs = [-(-unit.up(c.cost) // coarse) for c in answer.candidates]
    values = [of_plan.whole(c) for c in answer.candidates]
    cost, value = front(costs, values, room // coarse)
    return Curve((must_cost + cost * coarse) / unit.fineness, (value + must_value) / of_plan.scale, coarse == 1)
