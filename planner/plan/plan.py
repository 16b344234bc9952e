"""A plan: the best set of runs for a budget, in the order to do them, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from epochcast.interval import Interval
from epochcast.model.selection.experimental_design import Field, next_indices
from epochcast.model.time_model.physics import Array
from epochcast.planner.costs.budget import SECONDS, Budget, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Combination, Value
from epochcast.planner.plan.margin import NO_MARGIN, Margin, Priced, best_within, most
from epochcast.schema import EXAMPLE_LISTS, TRAIN_N, RunConfig


class NothingFitsError(ValueError):
    """No run, or not all that must be done, keeps the budget, or none that does is worth anything."""


MOST_FOR_INFO = 5_000  # their distances, pair by pair, take 200 MB
# how a plan is found, as plan.json has it
_METHODS = {Combination.SUM: "exact", Combination.BEST: "single", Combination.INFORMATION: "greedy"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs chosen for a budget. `value_dp` is what the search found, `value_resummed` what `chosen` is worth."""

    chosen: list[Candidate]  # in the order to run
    left_out: list[Candidate]
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
        return _upper(self.chosen, self.budget.unit, self.margin)

    @property
    def upper(self) -> float:
        """The same with the margin: what the plan promises."""
        return _upper(self.chosen, self.budget.unit, self.margin)

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
        """What nothing tells the error of, over all prices."""
        return sorted({name for c in self.chosen if c.price is not None for name in c.price.unknown})

    @property
    def budget_used(self) -> float:
        return self.upper / self.budget.amount

    def missed(self, n: int = 5) -> list[tuple[Candidate, float]]:
        """The `n` runs left out that are worth most, and what the budget lacks for each beside the plan."""
        lacking = [(c, _lacking([*self.base, c], self.budget, self.margin)) for c in self.left_out]
        return sorted(lacking, key=lambda pair: (-pair[0].value, pair[1]))[:n]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is measured already: `info` asks what a run would add to it."""

    measured: Sequence[RunConfig] = ()
    train_n: int = TRAIN_N


NOTHING_KNOWN = Knowledge()


def _upper(candidates: Sequence[Candidate], unit: Unit, margin: Margin) -> float:
    if not margin.quantile:
        return _whole(candidates, unit) / unit.fineness
    return margin.upper([c.cost for c in candidates], [_sd(c) for c in candidates])


def _sd(candidate: Candidate) -> float:
    if candidate.cost_sd is None:
        raise ValueError(f"the error of {candidate.config} is unknown: no margin can be told. Plan without confidence.")
    return candidate.cost_sd


def _lacking(candidates: Sequence[Candidate], budget: Budget, margin: Margin) -> float:
    """What these runs need beyond the budget, 0 if nothing; in whole numbers as in the search without margin."""
    unit = budget.unit
    if margin.quantile:
        upper = _upper(candidates, unit, margin)
        return 0.0 if upper <= most(budget.amount) else upper - budget.amount
    return max(0, _whole(candidates, unit) - unit.down(budget.amount)) / unit.fineness


def _fits(candidates: Sequence[Candidate], budget: Budget, margin: Margin) -> bool:
    """Whether these runs keep the budget."""
    return _lacking(candidates, budget, margin) == 0


class _FitsBeside:
    """Which runs of a pool keep the budget beside others of it, one at a time; each run is priced once."""

    def __init__(self, pool: Sequence[Candidate], budget: Budget, margin: Margin) -> None:
        self.budget, self.margin = budget, margin
        self.whole = [] if margin.quantile else [budget.unit.up(c.cost) for c in pool]
        self.costs = np.array([c.cost for c in pool] if margin.quantile else [])
        self.sds = np.array([_sd(c) for c in pool] if margin.quantile else [])

    def of(self, own: Sequence[int]) -> list[bool]:
        """Whether each fits beside those of these numbers."""
        if not self.margin.quantile:
            room = self.budget.unit.down(self.budget.amount) - sum(self.whole[i] for i in own)
            return [whole <= room for whole in self.whole]
        expected = math.fsum(self.costs[list(own)]) + self.costs
        sds = np.hypot(math.hypot(*self.sds[list(own)]), self.sds)
        upper = expected + self.margin.quantile * (self.margin.common_sd * expected + sds)
        found: list[bool] = (upper <= most(self.budget.amount)).tolist()
        return found


def _whole(candidates: Sequence[Candidate], unit: Unit) -> int:
    return sum(unit.up(c.cost) for c in candidates)


def make_plan(
    candidates: Sequence[Candidate],
    budget: Budget,
    value: Value,
    margin: Margin = NO_MARGIN,
    must: Sequence[Candidate] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
) -> Plan:
    """The most valuable set of runs that keeps the budget with its margin.

    Args:
        must: runs that are done whatever they are worth; none of `candidates`.

    Raises:
        NothingFitsError: if not even the cheapest run fits, the musts do not, or none that fits is worth anything.
        RuntimeError: if the set found is not worth what the search says, or does not fit: a bug, never passed over.
    """
    unit = budget.unit
    if budget.amount <= 0:
        raise NothingFitsError(f"nothing is left of the budget ({budget.text}).")
    if must and not _fits(must, budget, margin):
        own, needed = unit.apart(budget.amount, _upper(must, unit, margin))
        raise NothingFitsError(
            f"the runs that must be done take {needed}{_with_margin(margin)}, the budget is {own}. Raise it, or narrow "
            "--must."
        )
    if not must:
        cheapest = min(candidates, key=lambda c: _upper([c], unit, margin))
        if not _fits([cheapest], budget, margin):
            own, needed = unit.apart(budget.amount, _upper([cheapest], unit, margin))
            raise NothingFitsError(
                f"the budget of {own} is smaller than every run: the cheapest, "
                f"{cheapest.config}, takes {needed}{_with_margin(margin)}"
                + (f" for {cheapest.repeats} runs. Lower --repeats" if cheapest.repeats > 1 else ". Lower --epochs")
                + ", or raise the budget."
            )
    if value.combination is Combination.SUM:
        plan = _best_sum(candidates, budget, value, margin, must)
    elif value.combination is Combination.BEST:
        plan = _best_single(candidates, budget, value, margin, must)
    else:
        plan = _most_informative(candidates, budget, value, margin, must, knowledge)
    if not plan.chosen:
        raise NothingFitsError(
            f"no run that fits the budget is worth anything by {value.name}. Choose another --value."
        )
    return plan


def _with_margin(margin: Margin) -> str:
    return " with the margin" if margin.quantile else ""


def _best_sum(
    candidates: Sequence[Candidate], budget: Budget, value: Value, margin: Margin, must: Sequence[Candidate]
) -> Plan:
    sds = [_sd(c) for c in candidates] if margin.quantile else [0.0] * len(candidates)
    unit = budget.unit
    must_cost, must_sd = _whole(must, unit) / unit.fineness, 0.0  # each rounded up by itself, as the candidates are
    if margin.quantile:
        must_cost, must_sd = math.fsum(c.cost for c in must), math.hypot(*map(_sd, must))
    priced = Priced([c.cost for c in candidates], sds, [value.whole(c) for c in candidates])
    solution = best_within(priced, budget, margin, must_cost, must_sd)
    chosen = [candidates[i] for i in solution.indices]
    is_chosen = set(solution.indices)
    must_value = sum(value.whole(c) for c in must)
    chosen_value = sum(value.whole(c) for c in chosen)
    # with a margin the search added the same floats in another order
    allowed = replace(budget, amount=most(budget.amount)) if margin.quantile else budget
    if chosen_value != solution.value or not _fits([*must, *chosen], allowed, margin):
        raise RuntimeError(
            f"the plan contradicts itself: the search says {solution.value!r}, its set sums to {chosen_value!r} and "
            f"takes {_upper([*must, *chosen], unit, margin)!r} of {budget.amount!r} {unit.word}. Please report "
            "this with the table."
        )
    return Plan(
        chosen=_in_order([*must, *chosen], must),
        left_out=[c for i, c in enumerate(candidates) if i not in is_chosen],
        budget=budget,
        value=value,
        value_dp=(solution.value + must_value) / value.scale,
        value_resummed=math.fsum(c.value for c in [*must, *chosen]),
        bound=(solution.bound + must_value) / value.scale,
        is_proven=solution.is_proven,
        margin=margin,
        base=[*must, *chosen],
    )


def _in_order(chosen: Sequence[Candidate], must: Sequence[Candidate]) -> list[Candidate]:
    """Musts first, then by value per cost: whenever the runs are stopped, what was spent was spent well."""
    is_must = {id(c) for c in must}
    return sorted(chosen, key=lambda c: (id(c) not in is_must, -c.value / c.cost, c.config))


def _best_single(
    candidates: Sequence[Candidate], budget: Budget, value: Value, margin: Margin, must: Sequence[Candidate]
) -> Plan:
    """The affordable run with the highest value, of several the cheapest; proven, as all are looked at."""
    affordable = [c for c in candidates if _fits([*must, c], budget, margin)]
    best = min(affordable, key=lambda c: (-c.value, c.cost), default=None)
    chosen = [*must, *([best] if best is not None and best.value > max((c.value for c in must), default=0.0) else [])]
    found = max((c.value for c in chosen), default=0.0)
    left_out = [c for c in candidates if c is not best]
    return Plan(chosen, left_out, budget, value, found, found, found, True, margin, list(must))


def _most_informative(
    candidates: Sequence[Candidate],
    budget: Budget,
    value: Value,
    margin: Margin,
    must: Sequence[Candidate],
    knowledge: Knowledge,
) -> Plan:
    """The design's next run for what it costs, again and again; or the one best run, if that tells more.

    For a submodular gain such a choice is worth at least (1 - 1/e) / 2 of the best (Leskovec et al., KDD 2007): the
    determinant of the first runs is submodular, the variance reduction after them only nearly.
    """
    pool = [*must, *candidates]
    if (n := len(pool) + len(knowledge.measured)) > MOST_FOR_INFO:
        raise ValueError(
            f"{value.name} compares each configuration with every other: {n:,}, candidates and measured ones, are too "
            f"many. At most {MOST_FOR_INFO:,} are taken; choose another --value."
        )
    known = [config for config in dict.fromkeys(knowledge.measured) if config not in {c.config for c in pool}]
    measured = set(knowledge.measured)
    configs = [*(c.config for c in pool), *known]
    costs = np.array([*(c.cost for c in pool), *[1.0] * len(known)])
    begun = [i for i, config in enumerate(configs) if i < len(must) or config in measured]

    beside = _FitsBeside(pool, budget, margin)

    def fits(chosen: list[int]) -> npt.NDArray[np.bool_]:
        return np.array([*beside.of([*range(len(must)), *chosen]), *[False] * len(known)])

    if not must and len(begun) == len(configs):
        raise NothingFitsError(
            f"every candidate is measured already: {value.name} has nothing to add. Name others, e.g. "
            f"{EXAMPLE_LISTS}, or --candidates."
        )
    order = next_indices(configs, begun, len(pool), knowledge.train_n, lambda taken: costs, fits)
    at_first = Field(configs, begun, knowledge.train_n).gains()
    at_first[begun] = 0.0
    at_first[~fits([])] = 0.0
    reached, later = _reached(configs, begun, order, knowledge.train_n)
    if at_first.max() > reached[-1] - reached[0]:
        order = [int(at_first.argmax())]
        reached, later = _reached(configs, begun, order, knowledge.train_n)
    chosen = [replace(pool[i], value=reached[k + 1] - reached[k]) for k, i in enumerate(order)]
    left_out = [
        replace(c, value=float(later[i])) for i, c in enumerate(pool) if i >= len(must) and i not in {*begun, *order}
    ]
    return Plan(
        chosen=[*must, *chosen],
        left_out=left_out,
        budget=budget,
        value=value,
        value_dp=reached[-1] - reached[0],
        value_resummed=math.fsum(c.value for c in chosen),
        bound=None,
        is_proven=False,
        margin=margin,
        base=[*must, *chosen],
    )


def _reached(
    configs: Sequence[RunConfig], begun: Sequence[int], order: Sequence[int], train_n: int
) -> tuple[list[float], Array]:
    """The share known before, and after each run of an order; then what each further run would add."""
    field = Field(configs, begun, train_n)
    reached = [field.known]
    for i in order:
        field.measure(i)
        reached.append(field.known)
    return reached, field.gains()
