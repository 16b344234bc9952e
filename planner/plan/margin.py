"""A plan's joint margin, and the exact search for the best plan that keeps its budget with that margin.

A plan takes the sum of its runs' expected costs (seconds, or another unit), and on top of it what its confidence asks
for: errors of single runs average out (their standard deviations add as squares), a factor common to all, such as a
slow day, does not.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from epochcast.planner.costs.budget import ROUNDING, Budget
from epochcast.planner.plan.knapsack import Solution, solve

_UNITS = 2**30  # of the budget in the search with a margin: finer than a millisecond up to twelve days
_MAX_SEARCHES = 100


@dataclass(frozen=True, slots=True)
class Margin:
    """`quantile` x (`common_sd` x expected cost + root of the summed variances); none with a quantile of 0."""

    quantile: float = 0.0
    common_sd: float = 0.0  # relative standard deviation of the factor common to all runs of a plan

    @classmethod
    def of_confidence(cls, confidence: float, common_sd: float) -> Margin:
        """The margin that a share `confidence` of plans keeps."""
        return cls(max(0.0, NormalDist().inv_cdf(confidence)), common_sd)

    def room(self, expected: Sequence[float], sds: Sequence[float]) -> float:
        """The margin of a plan of these runs."""
        return self.quantile * (self.common_sd * math.fsum(expected) + math.hypot(*sds))

    def upper(self, expected: Sequence[float], sds: Sequence[float]) -> float:
        """What a plan of these runs takes at most, with the confidence that the quantile stands for."""
        return math.fsum(expected) + self.room(expected, sds)


NO_MARGIN = Margin()


def most(budget: float) -> float:
    """The largest sum that keeps a budget: floats added in another order may be a little off."""
    return budget * (1 + float(ROUNDING))


@dataclass(frozen=True, slots=True)
class Priced:
    """Runs to choose from: expected costs, standard deviations of those, and whole-number values."""

    expected: Sequence[float]
    sds: Sequence[float]
    values: Sequence[int]


def best_within(priced: Priced, budget: Budget, margin: Margin, fixed: float = 0.0, fixed_sd: float = 0.0) -> Solution:
    """The set worth most among those that keep the budget with their margin, beside runs that are done anyway.

    Without a margin one exact knapsack in the unit's whole numbers (milliseconds); `Solution.cost` is in those, rounded
    up.

    Args:
        fixed: expected cost of the runs done anyway, of which `fixed_sd` is the standard deviation.

    Raises:
        ValueError: as `planner.plan.knapsack.solve` does.
    """
    unit = budget.unit
    costs = [unit.up(cost) for cost in priced.expected]
    if not margin.quantile:
        return solve(costs, priced.values, unit.down(budget.amount) - unit.up(fixed))
    found = _WithMargin(priced, budget.amount, margin, fixed, fixed_sd).search()
    cost = sum(costs[i] for i in found.indices)
    return Solution(found.indices, found.value, cost, found.is_proven, found.bound, found.max_states)


class _WithMargin:
    """Branch and bound over s, the root of a plan's summed variances.

    The margin is concave in s squared: for sets with s in [a, b] its chord is a relaxation, and its tangent anywhere a
    restriction. Either makes it linear in the runs: a plain knapsack. Intervals are halved where a relaxed set lies,
    until no relaxation promises more than the best restriction has.
    """

    def __init__(self, priced: Priced, budget: float, margin: Margin, fixed: float, fixed_sd: float) -> None:
        self.priced, self.budget, self.margin = priced, most(budget), margin
        self.fixed, self.fixed_sd = fixed, fixed_sd
        self.stretch = 1 + margin.quantile * margin.common_sd
        self.best = Solution((), 0, 0, True, 0, 0)
        self.max_states = 0

    def search(self) -> Solution:
        """The best set; `is_proven` False and a bound where the searches do not suffice."""
        quantile = self.margin.quantile
        numbers = itertools.count()  # no two entries of the heap are compared by more
        widest = math.hypot(self.fixed_sd, *self.priced.sds)
        waiting = [(-sum(self.priced.values), next(numbers), self.fixed_sd, widest)]
        for _ in range(_MAX_SEARCHES):
            if not waiting or -waiting[0][0] <= self.best.value:
                break
            _, _, low, high = heapq.heappop(waiting)
            chord = quantile / (low + high) if high > 0 else 0.0
            relaxed = self._knapsack(chord, chord * low * high, math.floor, math.ceil)
            if relaxed is None or relaxed.bound <= self.best.value:
                continue
            spread = math.hypot(self.fixed_sd, *(self.priced.sds[i] for i in relaxed.indices))
            if self._keeps_budget(relaxed) and relaxed.is_proven:
                continue
            if spread > 0:
                tangent = self._knapsack(quantile / (2 * spread), quantile * spread / 2, math.ceil, math.floor)
                if tangent is not None:
                    self._keeps_budget(tangent)
            middle = spread if low < spread < high else (low + high) / 2
            if not low < middle < high:  # narrower than numbers can tell: left open, with its bound
                heapq.heappush(waiting, (-relaxed.bound, next(numbers), low, high))
                break
            for part in ((low, middle), (middle, high)):
                heapq.heappush(waiting, (-relaxed.bound, next(numbers), *part))
        bound = max(self.best.value, -waiting[0][0] if waiting else 0)
        return Solution(self.best.indices, self.best.value, 0, bound == self.best.value, bound, self.max_states)

    def _knapsack(
        self, per_variance: float, reserve: float, of_cost: Callable[[float], int], of_room: Callable[[float], int]
    ) -> Solution | None:
        """The plain knapsack in which each unit squared of variance costs so much; None without room."""
        room = self.budget - reserve - self.stretch * self.fixed - per_variance * self.fixed_sd**2
        if room < 0:
            return None
        scale = _UNITS / self.budget
        costs = [
            of_cost(scale * (self.stretch * cost + per_variance * sd * sd))
            for cost, sd in zip(self.priced.expected, self.priced.sds, strict=True)
        ]
        solution = solve(costs, self.priced.values, of_room(scale * room))
        self.max_states = max(self.max_states, solution.max_states)
        return solution

    def _keeps_budget(self, solution: Solution) -> bool:
        """Whether the set keeps the budget with its margin; it is then the best one if it is worth more."""
        expected = [self.fixed, *(self.priced.expected[i] for i in solution.indices)]
        sds = [self.fixed_sd, *(self.priced.sds[i] for i in solution.indices)]
        keeps = self.margin.upper(expected, sds) <= self.budget
        if keeps and solution.value > self.best.value:
            self.best = solution
        return keeps
