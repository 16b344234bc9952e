"""A plan for people: what was assumed, the runs, the sums, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from epochcast.interval import coverage_text
from epochcast.output.text import clock, percent, range_text, significant, table_text
from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.costs.candidates import UPPER_SHARE, Candidate
from epochcast.planner.costs.values import Combination
from epochcast.planner.output.value_curve import neighbours
from epochcast.planner.plan.plan import Plan
from epochcast.planner.request.request import Answer

HEADER = ("configuration", "overhead s", "first epoch s", "s/epoch", "total s")
_VALUES = ("acc", "images/s", "value")
_WHY_UNKNOWN = {
    "energy": "too few runs measured energy",
    "formula": "the formula tells none",
    "price": "no range of the price is known",
    "carbon": "no range of the carbon is known",
}
_EXPECTED = {"formula": "the formula", "making": "the making of the GPU"}  # the others' names are words


def plan_lines(answer: Answer) -> list[str]:
    """Notes, the table of runs, sums and proof, and the best runs that were left out."""
    plan, unit = answer.plan, answer.plan.budget.unit
    lines = [f"note: {note}" for note in answer.notes]
    header = [*HEADER, *([] if unit == SECONDS else [unit.word]), f"{coverage_text(UPPER_SHARE)} within", *_VALUES]
    rows = [[*_cells(c), _marks(c)] for c in plan.chosen]
    lines += ["", table_text([*header, ""], rows), ""]
    has_repeats = any(c.repeats > 1 for c in plan.chosen)
    n_runs = sum(c.repeats for c in plan.chosen)
    repeated = f" ({len(plan.chosen)} configurations, {plan.chosen[0].repeats} times each)" if has_repeats else ""
    lines += [
        f"runs: {n_runs} of {plan.chosen[0].epochs} epochs{repeated}, in this order",
        f"total_sec: {significant(plan.total_sec, 6)} ({clock(plan.total_sec)}) expected",
    ]
    lines += _cost_lines(answer)
    lines += [
        f"budget_used: {percent(plan.budget_used)} of {unit.text(plan.budget.amount, 6)}",
        f"value ({plan.value.name}): {_value(plan, plan.value_dp)} {_how(plan)}",
        f"optimal: {_proof(plan)}",
    ]
    if missed := plan.missed():
        missed_rows = [[*_cells(c), lacking, _marks(c)] for c, lacking in missed]
        what = f"and the {'seconds' if unit == SECONDS else unit.word} that the budget lacks for each"
        if plan.value.combination is Combination.BEST:
            what += " (0: it fits, but is worth less)"
        lines += ["", f"best {len(missed)} of {len(plan.excluded)} left out, {what}:"]
        lines.append(table_text([*header, f"lacking {unit.word}", ""], missed_rows))
    return lines


def _cost_lines(answer: Answer) -> list[str]:
    """What a plan takes of its budget: expected where that is no time, its range, and with the margin."""
    plan, unit = answer.plan, answer.plan.budget.unit
    lines, if_so, more = [], "", "longer"
    if unit != SECONDS:
        lines.append(f"total_{unit.key}: {significant(plan.cost, 6)} expected")
        more, if_so = "more", _if_so(plan)
        if plan.shared or plan.unknown:
            lines.append(f"range_{unit.key}: {_range(plan)}")
    if not plan.margin.quantile:
        return [*lines, f"upper_{unit.key}: no margin: about half of such plans overrun"]
    told = significant(plan.upper, 6) + (f" ({clock(plan.upper)})" if unit == SECONDS else "")
    share = percent(answer.confidence or 0.0)
    promise = f"with the margin: {share} of such plans take no {more}{answer.caveat}{if_so}"
    return [*lines, f"upper_{unit.key}: {told} {promise}"]


def _range(plan: Plan) -> str:
    """What a plan may cost in all by what its runs share, and what of that is unknown."""
    band = plan.band
    if band is None or band.low is None:
        return f"unknown: {'; '.join(_WHY_UNKNOWN[name] for name in plan.unknown)}"
    ends = f"{range_text(band.low, band.high)} by {_named(plan.shared)}"
    if not plan.unknown:
        return f"{ends}, common to all runs: no margin holds it"
    lacking = "; ".join(f"the {name}'s range is unknown" for name in plan.unknown)
    return f"{ends} alone; {lacking}; no margin holds either"


def _if_so(plan: Plan) -> str:
    """Return the errors that the margin leaves out: those common to all runs and those unknown."""
    names = {*plan.shared, *plan.unknown} - ({"power"} if "energy" in plan.unknown else set())
    if not names:
        return ""
    return f", if {_named(sorted(names))} {'is' if len(names) == 1 else 'are'} as expected"


def _named(names: Sequence[str]) -> str:
    words = [_EXPECTED.get(name, name) for name in names]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _cells(candidate: Candidate) -> list[object]:
    parts = [candidate.overhead.value, candidate.first_epoch.value, candidate.steady.value, candidate.total_sec]
    parts += [] if candidate.price is None else [candidate.cost]
    known = [candidate.acc, candidate.images_per_sec, candidate.value]
    return [str(candidate.config), *parts, candidate.cost_high, *known]


def _marks(candidate: Candidate) -> str:
    """What a reader should know of a row beside its numbers."""
    known = "extrapolated" if candidate.is_extrapolated else "predicted" if candidate.is_predicted else ""
    return ", ".join([*([f"x {candidate.repeats}"] if candidate.repeats > 1 else []), *([known] if known else [])])


def _value(plan: Plan, value: float) -> str:
    return significant(value, plan.value.digits or len(str(round(value))))


def _how(plan: Plan) -> str:
    if plan.value.combination is Combination.INFORMATION:
        return "of the variance that the design's Gaussian process has over the candidates, removed"
    again = _value(plan, plan.value_resummed)
    return f"by the search, {again} counted again over the runs above"


def _proof(plan: Plan) -> str:
    if plan.is_proven:
        return "yes, proven"
    if plan.bound is None:
        return "not proven: chosen greedily"
    return f"not proven: at most {_value(plan, plan.bound)}, {percent(plan.bound / plan.value_dp - 1)} more"


def front_lines(answer: Answer) -> list[str]:
    """The value of the best plan at budgets around the one asked for."""
    rows = []
    for budget, plan in neighbours(answer):
        value = 0.0 if plan is None else plan.value_dp
        runs = 0 if plan is None else sum(c.repeats for c in plan.chosen)
        more = value - answer.plan.value_dp
        here = "this plan" if plan is answer.plan else f"{'+' if more >= 0 else '-'}{_value(answer.plan, abs(more))}"
        rows.append([answer.plan.budget.unit.clock(budget), _value(answer.plan, value) if value else "0", here, runs])
    return ["", table_text(["budget", answer.plan.value.label, "more", "runs"], rows)]


def front_json(answer: Answer) -> Sequence[dict[str, object]]:
    """The same as JSON values."""
    key = answer.plan.budget.unit.key
    return [
        {
            f"budget_{key}": budget,
            "value": None if plan is None else plan.value_dp,
            "n_runs": 0 if plan is None else sum(c.repeats for c in plan.chosen),
        }
        for budget, plan in neighbours(answer)
    ]


def excluded_json(plan: Plan) -> Sequence[dict[str, object]]:
    """The best runs left out, with what each would need more of the budget."""
    key = plan.budget.unit.key
    return [
        {
            **asdict(c.config),
            "value": c.value,
            "total_sec": c.total_sec,
            f"total_{key}": c.cost,
            f"lacking_{key}": lacking,
        }
        for c, lacking in plan.missed()
    ]
