"""What another ten minutes would buy: the value of the best plan against the budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.physics import Array
from model.progress import Progress
from planner.knapsack import budget_milliseconds, front, to_milliseconds_up
from planner.plan import VALUE_SCALE, NothingFitsError, Plan
from planner.request import Answer
from planner.worth import SUMS

STEPS_SEC = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800)
BEFORE, BEHIND = 3, 6  # budgets shown below and above the one asked for
_POINTS = 40  # where the curve is made of plans
_FRONT_UNITS = 100_000  # of the budget, with more than _FEW candidates: lists are no longer than that
_FEW = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """Values from budgets on, both ascending; between two budgets it is that of the lower one, or not known exactly."""

    budget_sec: Array
    value: Array
    is_exact: bool


def neighbours(answer: Answer) -> list[tuple[float, Plan | None]]:
    """Budgets around the one asked for, in round steps, each with its best plan; None where nothing fits."""
    budget = answer.plan.budget_sec
    step = min(STEPS_SEC, key=lambda sec: abs(np.log(sec * (BEHIND + 2) / budget)))
    budgets = [budget + k * step for k in range(-BEFORE, BEHIND + 1)]
    return [(b, answer.plan if b == budget else _plan_at(answer, b)) for b in budgets if b > 0]


def _plan_at(answer: Answer, budget_sec: float) -> Plan | None:
    try:
        return answer.at(budget_sec)
    except NothingFitsError:
        return None


def value_curve(answer: Answer, up_to_sec: float) -> Curve:
    """The value of the best plan for every budget up to `up_to_sec`.

    Sums without a margin come exactly from one run of the search without its bound (with many candidates in units of
    1/100,000 of the longest budget, costs rounded up); other plans are made at forty budgets.
    """
    plan = answer.plan
    if plan.value in SUMS and not plan.margin.quantile:
        return _exact_curve(answer, up_to_sec)
    cheapest = min((c.total_sec for c in [*answer.must, *answer.candidates]), default=0.0)
    budgets = np.unique([*np.linspace(cheapest, up_to_sec, _POINTS), plan.budget_sec])
    plans: list[Plan | None] = []
    progress = Progress("plans for other budgets")
    for number, budget in enumerate(budgets, start=1):
        plans.append(_plan_at(answer, float(budget)))
        progress(number / len(budgets))
    return Curve(budgets, np.array([0.0 if p is None else p.value_dp for p in plans]), False)


def _exact_curve(answer: Answer, up_to_sec: float) -> Curve:
    scale = VALUE_SCALE[answer.plan.value]
    must_ms = sum(to_milliseconds_up(c.total_sec) for c in answer.must)
    must_value = sum(round(scale * c.value) for c in answer.must)
    room_ms = budget_milliseconds(up_to_sec) - must_ms
    unit = 1 if len(answer.candidates) <= _FEW else 1 + room_ms // _FRONT_UNITS
    costs = [-(-to_milliseconds_up(c.total_sec) // unit) for c in answer.candidates]
    values = [round(scale * c.value) for c in answer.candidates]
    cost, value = front(costs, values, room_ms // unit)
    return Curve((must_ms + cost * unit) / 1000, (value + must_value) / scale, unit == 1)
