"""A plan's joint margin, and the exact search for the best plan that keeps its budget with that margin.

A plan takes the sum of its runs' expected seconds, and on top of it what its confidence asks for: errors of single runs
average out (their standard deviations add as squares), a factor common to all, such as a slow day, does not.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from planner.knapsack import Solution, budget_milliseconds, solve, to_milliseconds_up

_UNITS = 2**30  # of the budget in the search with a margin: finer than a millisecond up to twelve days
_MAX_SEARCHES = 100


@dataclass(frozen=True, slots=True)
class Margin:
    """`quantile` x (`common_sd` x expected seconds + root of the summed variances); none with a quantile of 0."""

    quantile: float = 0.0
    common_sd: float = 0.0  # relative standard deviation of the factor common to all runs of a plan

    @classmethod
    def of_confidence(cls, confidence: float, common_sd: float) -> Margin:
        """The margin that a share `confidence` of plans keeps."""
        return cls(max(0.0, NormalDist().inv_cdf(confidence)), common_sd)

    def seconds(self, expected_sec: Sequence[float], sd_sec: Sequence[float]) -> float:
        """The margin of a plan of these runs."""
        return self.quantile * (self.common_sd * math.fsum(expected_sec) + math.hypot(*sd_sec))

    def upper_sec(self, expected_sec: Sequence[float], sd_sec: Sequence[float]) -> float:
        """What a plan of these runs takes at most, with the confidence that the quantile stands for."""
        return math.fsum(expected_sec) + self.seconds(expected_sec, sd_sec)


NO_MARGIN = Margin()


@dataclass(frozen=True, slots=True)
class Priced:
    """Runs to choose from: expected seconds, standard deviations of those, and whole-number values."""

    expected_sec: Sequence[float]
    sd_sec: Sequence[float]
    values: Sequence[int]


def best_within(
    priced: Priced, budget_sec: float, margin: Margin, fixed_sec: float = 0.0, fixed_sd: float = 0.0
) -> Solution:
    """The set worth most among those that keep the budget with their margin, beside runs that are done anyway.

    Without a margin one exact knapsack in whole milliseconds; `Solution.cost` is in milliseconds, rounded up.

    Args:
        fixed_sec: expected seconds of the runs done anyway, of which `fixed_sd` is the standard deviation.

    Raises:
        ValueError: as `planner.knapsack.solve` does.
    """
    costs = [to_milliseconds_up(seconds) for seconds in priced.expected_sec]
    if not margin.quantile:
        return solve(costs, priced.values, budget_milliseconds(budget_sec) - to_milliseconds_up(fixed_sec))
    found = _WithMargin(priced, budget_sec, margin, fixed_sec, fixed_sd).search()
    cost = sum(costs[i] for i in found.indices)
    return Solution(found.indices, found.value, cost, found.is_proven, found.bound, found.max_states)


class _WithMargin:
    """Branch and bound over s, the root of a plan's summed variances.

    The margin is concave in s squared: for sets with s in [a, b] its chord is a relaxation, and its tangent anywhere a
    restriction. Either makes it linear in the runs: a plain knapsack. Intervals are halved where a relaxed set lies,
    until no relaxation promises more than the best restriction has.
    """

    def __init__(self, priced: Priced, budget_sec: float, margin: Margin, fixed_sec: float, fixed_sd: float) -> None:
        self.priced, self.budget_sec, self.margin = priced, budget_sec, margin
        self.fixed_sec, self.fixed_sd = fixed_sec, fixed_sd
        self.stretch = 1 + margin.quantile * margin.common_sd
        self.best = Solution((), 0, 0, True, 0, 0)
        self.max_states = 0

    def search(self) -> Solution:
        """The best set; `is_proven` False and a bound where the searches do not suffice."""
        quantile = self.margin.quantile
        numbers = itertools.count()  # no two entries of the heap are compared by more
        widest = math.hypot(self.fixed_sd, *self.priced.sd_sec)
        waiting = [(-sum(self.priced.values), next(numbers), self.fixed_sd, widest)]
        for _ in range(_MAX_SEARCHES):
            if not waiting or -waiting[0][0] <= self.best.value:
                break
            _, _, low, high = heapq.heappop(waiting)
            chord = quantile / (low + high) if high > 0 else 0.0
            relaxed = self._knapsack(chord, chord * low * high, math.floor, math.ceil)
            if relaxed is None or relaxed.bound <= self.best.value:
                continue
            spread = math.hypot(self.fixed_sd, *(self.priced.sd_sec[i] for i in relaxed.indices))
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
        self, per_variance: float, reserve_sec: float, of_cost: Callable[[float], int], of_room: Callable[[float], int]
    ) -> Solution | None:
        """The plain knapsack in which each second squared of variance costs so many seconds; None without room."""
        room = self.budget_sec - reserve_sec - self.stretch * self.fixed_sec - per_variance * self.fixed_sd**2
        if room < 0:
            return None
        per_sec = _UNITS / self.budget_sec
        costs = [
            of_cost(per_sec * (self.stretch * seconds + per_variance * sd * sd))
            for seconds, sd in zip(self.priced.expected_sec, self.priced.sd_sec, strict=True)
        ]
        solution = solve(costs, self.priced.values, of_room(per_sec * room))
        self.max_states = max(self.max_states, solution.max_states)
        return solution

    def _keeps_budget(self, solution: Solution) -> bool:
        """Whether the set keeps the budget with its margin; it is then the best one if it is worth more."""
        expected = [self.fixed_sec, *(self.priced.expected_sec[i] for i in solution.indices)]
        sds = [self.fixed_sd, *(self.priced.sd_sec[i] for i in solution.indices)]
        keeps = self.margin.upper_sec(expected, sds) <= self.budget_sec
        if keeps and solution.value > self.best.value:
            self.best = solution
        return keeps
