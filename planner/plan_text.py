"""A plan for people: what was assumed, the runs, the sums, what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.cli import clock, percent, significant, table_text
from model.intervals import HALF_WIDTH_SDS
from planner.candidates import Candidate
from planner.front import neighbours
from planner.plan import GREEDY, SINGLE, Plan
from planner.request import Answer
from planner.worth import VALUE_LABELS

HEADER = (
    "configuration", "overhead s", "first epoch s", "s/epoch", "total s", "95 % within", "acc", "images/s", "value",
)  # fmt: skip
_DIGITS = {"acc": 5, "thr": 6, "best_acc": 4, "info": 3}


def plan_lines(answer: Answer) -> list[str]:
    """Notes, the table of runs, sums and proof, and the best runs that were left out."""
    plan = answer.plan
    lines = [f"note: {note}" for note in answer.notes]
    rows = [[*_cells(c), _marks(c)] for c in plan.chosen]
    lines += ["", table_text([*HEADER, ""], rows), ""]
    has_repeats = any(c.repeats > 1 for c in plan.chosen)
    n_runs = sum(c.repeats for c in plan.chosen)
    repeated = f" ({len(plan.chosen)} configurations, {plan.chosen[0].repeats} times each)" if has_repeats else ""
    lines += [
        f"runs: {n_runs} of {plan.chosen[0].epochs} epochs{repeated}, in this order",
        f"total_sec: {significant(plan.total_sec, 6)} ({clock(plan.total_sec)}) expected",
    ]
    if plan.margin.quantile:
        lines.append(
            f"upper_sec: {significant(plan.upper_sec, 6)} ({clock(plan.upper_sec)}) with the margin: "
            f"{percent(answer.confidence or 0.0)} of such plans take no longer{answer.caveat}"
        )
    else:
        lines.append("upper_sec: no margin: about half of such plans overrun")
    lines += [
        f"budget_used: {percent(plan.budget_used)} of {significant(plan.budget_sec, 6)} s",
        f"value ({plan.value}): {_value(plan, plan.value_dp)} {_how(plan)}",
        f"optimal: {_proof(plan)}",
    ]
    if missed := plan.missed():
        missed_rows = [[*_cells(c), seconds, _marks(c)] for c, seconds in missed]
        what = "and the seconds that the budget lacks for each"
        if plan.method == SINGLE:
            what += " (0: it fits, but is worth less)"
        lines += ["", f"best {len(missed)} of {len(plan.left_out)} left out, {what}:"]
        lines.append(table_text([*HEADER, "lacking s", ""], missed_rows))
    return lines


def _cells(candidate: Candidate) -> list[object]:
    sd = candidate.sd_sec
    upper = None if sd is None else candidate.total_sec + HALF_WIDTH_SDS * sd
    parts = [candidate.overhead.value, candidate.first_epoch.value, candidate.steady.value, candidate.total_sec, upper]
    return [str(candidate.config), *parts, candidate.acc, candidate.images_per_sec, candidate.value]


def _marks(candidate: Candidate) -> str:
    """What a reader should know of a row beside its numbers."""
    known = "extrapolated" if candidate.is_extrapolated else "predicted" if candidate.is_predicted else ""
    return ", ".join([*([f"x {candidate.repeats}"] if candidate.repeats > 1 else []), *([known] if known else [])])


def _value(plan: Plan, value: float) -> str:
    digits = len(str(round(value))) if plan.value == "count" else _DIGITS[plan.value]
    return significant(value, digits)


def _how(plan: Plan) -> str:
    if plan.method == GREEDY:
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
        rows.append([clock(budget), _value(answer.plan, value) if value else "0", here, runs])
    return ["", table_text(["budget", VALUE_LABELS[answer.plan.value], "more", "runs"], rows)]


def front_json(answer: Answer) -> Sequence[dict[str, object]]:
    """The same as JSON values."""
    return [
        {
            "budget_sec": budget,
            "value": None if plan is None else plan.value_dp,
            "n_runs": 0 if plan is None else sum(c.repeats for c in plan.chosen),
        }
        for budget, plan in neighbours(answer)
    ]


def left_out_json(plan: Plan) -> Sequence[dict[str, object]]:
    """The best runs left out, with the seconds that each would need more."""
    return [
        {
            "depth": c.config.depth,
            "base_filters": c.config.base_filters,
            "batch_size": c.config.batch_size,
            "value": c.value,
            "total_sec": c.total_sec,
            "lacking_sec": seconds,
        }
        for c, seconds in plan.missed()
    ]
