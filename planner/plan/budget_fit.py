"""Whether runs keep a budget with its margin: in whole numbers of its unit where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from epochcast.planner.costs.budget import Budget, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.plan.margin import Margin, most


def upper(candidates: Sequence[Candidate], unit: Unit, margin: Margin) -> float:
    """Return what runs take of a budget with the margin."""
    if not margin.quantile:
        return whole(candidates, unit) / unit.fineness
    return margin.upper([c.cost for c in candidates], [sd(c) for c in candidates])


def sd(candidate: Candidate) -> float:
    """Return the standard deviation of a run's cost; raise a ValueError where it is unknown."""
    if candidate.cost_sd is None:
        raise ValueError(f"the error of {candidate.config} is unknown: no margin can be told. Plan without confidence.")
    return candidate.cost_sd


def lacking(candidates: Sequence[Candidate], budget: Budget, margin: Margin) -> float:
    """Return what runs need beyond the budget, 0 if nothing; without margin in whole numbers as the search."""
    unit = budget.unit
    if margin.quantile:
        needed = upper(candidates, unit, margin)
        return 0.0 if needed <= most(budget.amount) else needed - budget.amount
    return max(0, whole(candidates, unit) - unit.down(budget.amount)) / unit.fineness


def fits(candidates: Sequence[Candidate], budget: Budget, margin: Margin) -> bool:
    """Return whether runs keep the budget."""
    return lacking(candidates, budget, margin) == 0


class FitsWith:
    """Which runs of a pool keep the budget together with others of it, one at a time; each run is priced once."""

    def __init__(self, pool: Sequence[Candidate], budget: Budget, margin: Margin) -> None:
        self.budget, self.margin = budget, margin
        self.whole = [] if margin.quantile else [budget.unit.up(c.cost) for c in pool]
        self.costs = np.array([c.cost for c in pool] if margin.quantile else [])
        self.sds = np.array([sd(c) for c in pool] if margin.quantile else [])

    def of(self, own: Sequence[int]) -> list[bool]:
        """Return whether each fits together with those of these numbers."""
        if not self.margin.quantile:
            room = self.budget.unit.down(self.budget.amount) - sum(self.whole[i] for i in own)
            return [each <= room for each in self.whole]
        expected = math.fsum(self.costs[list(own)]) + self.costs
        sds = np.hypot(math.hypot(*self.sds[list(own)]), self.sds)
        needed = expected + self.margin.quantile * (self.margin.common_sd * expected + sds)
        found: list[bool] = (needed <= most(self.budget.amount)).tolist()
        return found


def whole(candidates: Sequence[Candidate], unit: Unit) -> int:
    """Return what runs take in whole numbers of the search, each rounded up by itself."""
    return sum(unit.up(c.cost) for c in candidates)
