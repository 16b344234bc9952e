"""Figures of a plan: every run's parts stand along the clock where the plan has them, and the curve at its values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from epochcast.output.figures import save_figure_as
from epochcast.planner.costs.budget import KWH, Budget
from epochcast.planner.costs.values import ACC, COUNT, VALUES
from epochcast.planner.output.figures import clock_unit, front_figure, timeline
from epochcast.planner.output.value_curve import Curve
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from tests.support.plans import priced
from tests.support.rows import random_runs, run_costing


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def bars_of(figure):
    """Start and width of every bar with any, row by row."""
    bars = [
        (bar.get_y(), bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches if 0.7 < bar.get_height() < 0.9
    ]
    return [(x, width) for _, x, width in sorted(bars) if width > 0]


@pytest.mark.parametrize("margin", [NO_MARGIN, Margin(1.3, 0.01)], ids=["", "margin"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_parts_of_the_runs_follow_each_other_without_gap_from_the_start_to_the_expected_end(repeats, margin):
    runs = [dataclasses.replace(run, repeats=repeats, epochs=5) for run in random_runs(1)]
    plan = make_plan(runs, Budget(300.0), ACC, margin)
    figure = timeline(plan)
    bars = bars_of(figure)
    assert len(bars) == 3 * repeats * len(plan.chosen)
    assert bars[0][0] == 0
    ends = np.cumsum([width for _, width in bars])
    assert [x for x, _ in bars[1:]] == pytest.approx(ends[:-1].tolist())
    assert ends[-1] == pytest.approx(plan.total_sec, abs=1e-3 * len(plan.chosen))  # in seconds
    axes = figure.axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels.count("overhead") == labels.count("budget") == 1
    assert ("margin" in labels) == bool(margin.quantile)
    assert axes.get_xlabel() == "wall time (s)"
    low, high = axes.get_xlim()
    assert low == 0
    assert high > plan.budget.amount
    assert f"{repeats * len(plan.chosen)} runs of 5 epochs" in axes.get_title()


@pytest.mark.parametrize("n", [1, 60, 61, 200])
def test_few_runs_are_named_and_many_still_fit_the_page(tmp_path, n):
    runs = [run_costing(10.0, config=(2, 16, 2 + i)) for i in range(n)]
    figure = timeline(make_plan(runs, Budget(3600.0), COUNT))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ("(2,16,2)" in names) == (n <= 60)
    if n not in (60, 200):  # the most that are named and as many as there may be are drawn: each takes a second
        return
    path = save_figure_as(figure, tmp_path / "plan.png") or tmp_path / "plan.png"
    with Image.open(path) as image:
        assert max(image.size) < 2500
        assert len(image.convert("RGB").getcolors(maxcolors=2**20) or []) > 3


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(59.0, "s"), (599.0, "s"), (600.0, "min"), (14_399.0, "min"), (14_400.0, "h"), (604_800.0, "h")],
)
def test_the_clock_has_readable_numbers(seconds, unit):
    per_unit, name = clock_unit(seconds)
    assert name == unit
    assert per_unit == {"s": 1, "min": 60, "h": 3600}[unit]
    assert seconds / per_unit < 600


@pytest.mark.parametrize("value", VALUES)
def test_the_curve_is_drawn_as_steps_with_this_plan_on_it(value):
    plan = make_plan(random_runs(1, n=6), Budget(1200.0), VALUES[value])
    curve = Curve(np.array([0.0, 600.0, 1200.0, 2400.0]), np.array([0.0, plan.value_dp / 2, plan.value_dp, 9.0]), True)
    axes = front_figure(plan, curve).axes[0]
    steps, point = axes.get_lines()
    assert steps.get_xdata().tolist() == [0, 10, 20, 40]
    assert steps.get_ydata().tolist() == curve.value.tolist()
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (20, plan.value_dp)
    assert axes.get_xlabel() == "budget (min)"
    assert axes.get_ylabel()
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0


def test_a_plan_in_another_unit_has_its_runs_along_the_clock_and_its_budget_in_the_title():
    runs = priced([dataclasses.replace(run, epochs=5) for run in random_runs(1)])
    plan = make_plan(runs, Budget(0.01, KWH), ACC, Margin(1.3, 0.01))
    axes = timeline(plan).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert "overhead" in labels
    assert not {"budget", "margin"} & set(labels)  # no time says when it is used up
    assert axes.get_xlim()[1] == pytest.approx(1.02 * plan.total_sec)
    assert axes.get_title().endswith(" kWh expected of 0.01000 kWh")
    curve = Curve(np.array([0.0, 0.005, 0.01]), np.array([0.0, 1.0, plan.value_dp]), True)
    axes = front_figure(plan, curve).axes[0]
    assert axes.get_xlabel() == "budget (kWh)"
    assert axes.get_title() == "What more kWh would buy"
    assert axes.get_lines()[1].get_xdata()[0] == 0.01
