"""Search the best plan for a budget: exact for sums and single runs, greedy for information."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Combination, Value
from epochcast.planner.plan.budget_fit import fits, sd, upper, whole
from epochcast.planner.plan.margin import NO_MARGIN, Margin, Priced, best_within, most
from epochcast.planner.plan.plan import NOTHING_KNOWN, Knowledge, NothingFitsError, Plan


def make_plan(
    candidates: Sequence[Candidate],
    budget: Budget,
    value: Value,
    margin: Margin = NO_MARGIN,
    must: Sequence[Candidate] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
) -> Plan:
    """Return the most valuable set of runs that keeps the budget with its margin.

    Args:
        must: runs that are done whatever they are worth; none of `candidates`.

    Raises:
        NothingFitsError: if not even the cheapest run fits, the musts do not, or none that fits is worth anything.
        RuntimeError: if the set found is not worth what the search says, or does not fit: a bug, never passed over.
    """
    _require_room(candidates, budget, margin, must)
    if value.combination is Combination.SUM:
        plan = _best_sum(candidates, budget, value, margin, must)
    elif value.combination is Combination.BEST:
        plan = _best_single(candidates, budget, value, margin, must)
    else:
        from epochcast.planner.plan.information import most_informative  # the design behind it takes a tenth of a start

        plan = most_informative(candidates, budget, value, margin, must, knowledge)
    if not plan.chosen:
        raise NothingFitsError(
            f"no run that fits the budget is worth anything by {value.name}. Choose another --value."
        )
    return plan


def _require_room(candidates: Sequence[Candidate], budget: Budget, margin: Margin, must: Sequence[Candidate]) -> None:
    """Raise a NothingFitsError where the musts, or without any the cheapest run, do not keep the budget."""
    unit = budget.unit
    if budget.amount <= 0:
        raise NothingFitsError(f"nothing is left of the budget ({budget.text}).")
    if must and not fits(must, budget, margin):
        own, needed = unit.apart(budget.amount, upper(must, unit, margin))
        raise NothingFitsError(
            f"the runs that must be done take {needed}{_with_margin(margin)}, the budget is {own}. Raise it, or narrow "
            "--must."
        )
    if not must:
        cheapest = min(candidates, key=lambda c: upper([c], unit, margin))
        if not fits([cheapest], budget, margin):
            own, needed = unit.apart(budget.amount, upper([cheapest], unit, margin))
            raise NothingFitsError(
                f"the budget of {own} is smaller than every run: the cheapest, "
                f"{cheapest.config}, takes {needed}{_with_margin(margin)}"
                + (f" for {cheapest.repeats} runs. Lower --repeats" if cheapest.repeats > 1 else ". Lower --epochs")
                + ", or raise the budget."
            )


def _with_margin(margin: Margin) -> str:
    return " with the margin" if margin.quantile else ""


def _best_sum(
    candidates: Sequence[Candidate], budget: Budget, value: Value, margin: Margin, must: Sequence[Candidate]
) -> Plan:
    sds = [sd(c) for c in candidates] if margin.quantile else [0.0] * len(candidates)
    unit = budget.unit
    must_cost, must_sd = whole(must, unit) / unit.fineness, 0.0  # each rounded up by itself, as the candidates are
    if margin.quantile:
        must_cost, must_sd = math.fsum(c.cost for c in must), math.hypot(*map(sd, must))
    priced = Priced([c.cost for c in candidates], sds, [value.whole(c) for c in candidates])
    solution = best_within(priced, budget, margin, must_cost, must_sd)
    chosen = [candidates[i] for i in solution.indices]
    is_chosen = set(solution.indices)
    must_value = sum(value.whole(c) for c in must)
    chosen_value = sum(value.whole(c) for c in chosen)
    # with a margin the search added the same floats in another order
    allowed = replace(budget, amount=most(budget.amount)) if margin.quantile else budget
    if chosen_value != solution.value or not fits([*must, *chosen], allowed, margin):
        raise RuntimeError(
            f"the plan contradicts itself: the search says {solution.value!r}, its set sums to {chosen_value!r} and "
            f"takes {upper([*must, *chosen], unit, margin)!r} of {budget.amount!r} {unit.word}. Please report "
            "this with the table."
        )
    return Plan(
        chosen=_in_order([*must, *chosen], must),
        excluded=[c for i, c in enumerate(candidates) if i not in is_chosen],
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
    affordable = [c for c in candidates if fits([*must, c], budget, margin)]
    best = min(affordable, key=lambda c: (-c.value, c.cost), default=None)
    chosen = [*must, *([best] if best is not None and best.value > max((c.value for c in must), default=0.0) else [])]
    found = max((c.value for c in chosen), default=0.0)
    excluded = [c for c in candidates if c is not best]
    return Plan(chosen, excluded, budget, value, found, found, found, True, margin, list(must))
