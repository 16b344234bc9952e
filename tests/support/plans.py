"""Plans as they are saved, for tests of what becomes of them."""

from __future__ import annotations

import random
from dataclasses import replace

from epochcast.interval import Interval
from epochcast.planner.costs.budget import BoardShare, Budget, Price
from epochcast.planner.costs.values import VALUES, Combination
from epochcast.planner.plan.margin import NO_MARGIN
from epochcast.planner.plan.plan import NOTHING_KNOWN, Plan
from epochcast.planner.plan.plan_file import plan_json
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import Conditions
from epochcast.storage.files import write_json_atomically
from tests.support.light_child import EPOCH_SEC, FIRST_SEC
from tests.support.rows import run_costing, run_row

LIGHT = Conditions(dataset="synthetic", train_n=1000)  # what a light child can be asked for
SUMS = [name for name, value in VALUES.items() if value.combination is Combination.SUM]


def light_run(batch_size, sec=1.0, value=1.0, **more):
    """A candidate that a light child can run."""
    return run_costing(sec, value, config=(1, 2, batch_size), **more)


def priced(runs, seed=None, watts=200.0, sd=0.02, half=0.3):
    """The runs with a price in kWh: of so many watts, or with a seed of a power from half to twice that for each."""
    draw = random.Random(seed)

    def price():
        each = watts if seed is None else draw.uniform(0.5, 2) * watts
        per_sec = each / 3.6e6
        own = sd if seed is None else draw.uniform(0, 2 * sd)
        board = BoardShare(each, 1 / 3.6e6)
        if half is None:
            return Price(Interval(per_sec), own, board, unknown=("energy",))
        ends = ((1 - half) * per_sec, (1 + half) * per_sec)
        return Price(Interval(per_sec, *ends), own, board, shared=("power",) if half else ())

    return [replace(run, price=price()) for run in runs]


def write_plan(
    path,
    chosen,
    excluded=(),
    *,
    budget_sec=60.0,
    budget=None,
    value="count",
    margin=NO_MARGIN,
    must=(),
    knowledge=NOTHING_KNOWN,
    conditions=LIGHT,
):
    """The plan of these candidates, written to `path` and read again."""
    worth = sum(c.value for c in chosen)
    plan = Plan(
        chosen=list(chosen),
        excluded=list(excluded),
        budget=budget or Budget(budget_sec),
        value=VALUES[value],
        value_dp=worth,
        value_resummed=worth,
        bound=worth,
        is_proven=True,
        margin=margin,
        base=list(chosen),
    )
    must = [c.config for c in must]
    write_json_atomically(path, plan_json(plan, conditions, {}, [], must=must, knowledge=knowledge))
    return read_plan(path)


def row_of(run, wall_sec, times=(FIRST_SEC, EPOCH_SEC), grid_id=None):
    """The row of a run of a plan that took `wall_sec`."""
    config = run.candidate.config
    return run_row(
        times,
        config=(config.depth, config.base_filters, config.batch_size),
        run_id=run.planned.run_id,
        grid_id=grid_id,
        conditions=LIGHT,
        wall_sec=wall_sec,
        overhead_sec=wall_sec - sum(times),
        steady_time_sec=times[-1],
    )


def name_this_box(monkeypatch, device: str) -> None:
    """Let the planner take `device` for the device of this box."""
    for module in ("request.sources", "request.plan_budget", "costs.make_candidates"):
        monkeypatch.setattr(f"epochcast.planner.{module}.box_name_for", lambda _: device)
