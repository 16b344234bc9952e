"""A plan: the runs chosen for a budget, in the order to do them, and what it promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epochcast.interval import Interval
from epochcast.planner.costs.budget import SECONDS, Budget
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Combination, Value
from epochcast.planner.plan.budget_fit import lacking, upper
from epochcast.planner.plan.margin import Margin
from epochcast.schema import TRAIN_N, RunConfig

MOST_FOR_INFO = 5_000  # configurations: their distances, pair by pair, take 200 MB
# how a plan is found, as plan.json has it
_METHODS = {Combination.SUM: "exact", Combination.BEST: "single", Combination.INFORMATION: "greedy"}


class NothingFitsError(ValueError):
    """No run, or not all that must be done, keeps the budget, or none that does is worth anything."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs chosen for a budget. `value_dp` is what the search found, `value_resummed` what `chosen` is worth."""

    chosen: list[Candidate]  # in the order to run
    excluded: list[Candidate]
    budget: Budget
    value: Value
    value_dp: float
    value_resummed: float
    bound: float | None  # no plan is worth more; None where nothing is known
    is_proven: bool
    margin: Margin
    base: list[Candidate]  # what stays if another run joins: all, or the musts where it takes the place of the best

    @property
    def method(self) -> str:
        """How it was found: exact, single or greedy."""
        return _METHODS[self.value.combination]

    @property
    def total_sec(self) -> float:
        """Expected wall seconds; of a plan in seconds as its budget is charged."""
        return self.cost if self.budget.unit == SECONDS else math.fsum(c.total_sec for c in self.chosen)

    @property
    def cost(self) -> float:
        """What the plan is expected to take of its budget, counted as the search does: a budget of that fits it."""
        if self.margin.quantile:
            return math.fsum(c.cost for c in self.chosen)
        return upper(self.chosen, self.budget.unit, self.margin)

    @property
    def upper(self) -> float:
        """The same with the margin: what the plan promises."""
        return upper(self.chosen, self.budget.unit, self.margin)

    @property
    def band(self) -> Interval | None:
        """`cost` with the ends that prices and power have in common for all runs; None for a plan in seconds.

        No ends where a run's are unknown, or nothing is known of what may be off.
        """
        costs = [c.price.per_sec.times(c.total_sec) for c in self.chosen if c.price is not None]
        if not costs:
            return None
        ends = [(cost.low, cost.high) for cost in costs if cost.low is not None and cost.high is not None]
        if len(ends) < len(costs) or (self.unknown and not self.shared):
            return Interval(self.cost)
        low, high = (math.fsum(side) for side in zip(*ends, strict=True))
        return Interval(self.cost, low, max(high, self.cost))  # which is rounded up

    @property
    def shared(self) -> list[str]:
        """What is common to all runs and has a known spread, over all prices."""
        return sorted({name for c in self.chosen if c.price is not None for name in c.price.shared})

    @property
    def unknown(self) -> list[str]:
        """What has an unknown error, over all prices."""
        return sorted({name for c in self.chosen if c.price is not None for name in c.price.unknown})

    @property
    def budget_used(self) -> float:
        return self.upper / self.budget.amount

    def missed(self, n: int = 5) -> list[tuple[Candidate, float]]:
        """Return the `n` most valuable excluded runs, each with the extra budget that it needs."""
        pairs = [(c, lacking([*self.base, c], self.budget, self.margin)) for c in self.excluded]
        return sorted(pairs, key=lambda pair: (-pair[0].value, pair[1]))[:n]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is measured already: `info` asks what a run would add to it."""

    measured: Sequence[RunConfig] = ()
    train_n: int = TRAIN_N


NOTHING_KNOWN = Knowledge()
