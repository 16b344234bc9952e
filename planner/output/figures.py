"""Figures of a plan: its runs along the clock, and its value against the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochcast.output.figures import COLOURS, new_figure
from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.output.value_curve import Curve
from epochcast.planner.plan.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#999999"
_MOST_NAMES = 60  # rows of a timeline that have room for a name


def clock_unit(longest_sec: float) -> tuple[float, str]:
    """Seconds in a unit that gives readable numbers, and its name."""
    if longest_sec < 600:
        return 1.0, "s"
    return (60.0, "min") if longest_sec < 4 * 3600 else (3600.0, "h")


def timeline(plan: Plan) -> Figure:
    """The runs in order along the clock: overhead, first epoch, other epochs; then the margin, and the budget.

    Of a budget in another unit than seconds the clock shows neither.
    """
    unit_of_budget = plan.budget.unit
    is_timed = unit_of_budget == SECONDS
    longest_sec = max(plan.budget.amount, plan.upper) if is_timed else plan.total_sec
    per_unit, unit = clock_unit(plan.budget.amount if is_timed else plan.total_sec)
    runs = [c for c in plan.chosen for _ in range(c.repeats)]
    figure, axes = new_figure(9.0, max(2.6, 1.6 + 0.22 * min(len(runs), _MOST_NAMES)))
    start = 0.0
    labels = ("overhead", "first epoch", "other epochs")
    for row, run in enumerate(runs):
        parts = (run.overhead.value, run.first_epoch.value, (run.epochs - 1) * run.steady.value)
        for part, label, colour in zip(parts, labels, (GREY, COLOURS[1], COLOURS[0]), strict=True):
            name = label if row == 0 else None
            axes.barh(row, part / per_unit, left=start / per_unit, height=0.8, color=colour, label=name)
            start += part
    if is_timed and plan.margin.quantile:
        width = (plan.upper - start) / per_unit
        axes.axvspan(start / per_unit, start / per_unit + width, color=COLOURS[2], alpha=0.25, label="margin", lw=0)
    if is_timed:
        axes.axvline(plan.budget.amount / per_unit, color="black", linestyle="--", label="budget")
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(0, 1.02 * longest_sec / per_unit)
    if len(runs) <= _MOST_NAMES:
        axes.set_yticks(range(len(runs)), [str(c.config) for c in runs], fontsize=8)
        axes.set_ylabel("(depth, filters, batch)")
    else:
        axes.yaxis.set_major_formatter(lambda row, _: f"{row + 1:.0f}")
        axes.set_ylabel("run of the plan")
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"wall time ({unit})")
    axes.set_title(
        f"{len(runs)} runs of {runs[0].epochs} epochs: {unit_of_budget.text(plan.cost, 4)} expected of "
        f"{unit_of_budget.text(plan.budget.amount, 4)}"
    )
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    return figure


def front_figure(plan: Plan, curve: Curve) -> Figure:
    """The best plan's value for every budget, and where this plan stands."""
    unit_of_budget = plan.budget.unit
    is_timed = unit_of_budget == SECONDS
    per_unit, unit = clock_unit(float(curve.budget[-1])) if is_timed else (1.0, unit_of_budget.word)
    figure, axes = new_figure()
    if curve.is_exact:
        axes.step(curve.budget / per_unit, curve.value, where="post", color=COLOURS[0], label="best plan")
    else:
        name = f"best plans at {len(curve.budget)} budgets"
        axes.plot(curve.budget / per_unit, curve.value, ".-", color=COLOURS[0], lw=0.8, label=name)
    axes.plot(plan.budget.amount / per_unit, plan.value_dp, "o", color=COLOURS[1], label="this plan")
    axes.set_xlabel(f"budget ({unit})")
    axes.set_ylabel(plan.value.label)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_title(f"What more {'time' if is_timed else unit_of_budget.word} would buy")
    axes.legend()
    return figure
