"""What became of a plan: planned against actual, run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from epochcast.collect.grid.sequence import SequenceResult
from epochcast.output.text import percent, significant, table_text
from epochcast.paths import failures_csv
from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.costs.values import Combination
from epochcast.planner.execution.ledger import DONE, OTHER
from epochcast.planner.execution.schedule import Actual
from epochcast.planner.plan.plan_file import PARTS, PlanRun, SavedPlan
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.tables import read_table_if_any

NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a plan, planned against actual; None where it was not run, or did not finish."""

    run: PlanRun
    status: str  # done, a status of failures.csv, or "not started"
    wall_sec: float | None = None
    actual: Actual | None = None
    test_acc: float | None = None
    cost: float | None = None  # of a budget that is not in seconds
    steady_time_sec: float | None = None  # per epoch; `actual.steady` is the mean of all, with stalls: the time used


@dataclass(slots=True)
class PlanResult:
    """What became of a plan."""

    plan: SavedPlan
    entries: list[Entry]
    used: float  # of the budget, in its unit
    taken: SequenceResult = field(default_factory=SequenceResult)

    @property
    def has_failures(self) -> bool:
        """Whether a run was begun that is not done; what did not fit the budget is no failure."""
        return any(entry.status not in (DONE, NOT_STARTED) for entry in self.entries)

    @property
    def n_done(self) -> int:
        return sum(entry.status == DONE for entry in self.entries)

    @property
    def value(self) -> float:
        """What the finished runs were planned to be worth."""
        return _value_of(self.plan, [entry.run for entry in self.entries if entry.status == DONE])


def outcomes_of(plan: SavedPlan, runs: Path) -> dict[str, RunRecord | FailureRecord]:
    """What the tables hold of each run of a plan by its run_id: its row, else its last failure."""
    failures = failures_csv(runs)
    kept: list[FailureRecord | RunRecord] = [
        *read_table_if_any(failures, FailureRecord),
        *read_table_if_any(runs, RunRecord),
    ]
    ours = plan.runs
    return {record.run_id: record for record in kept if record.run_id in ours}


def status_of(outcome: RunRecord | FailureRecord, plan: SavedPlan) -> str:
    """How a run of the plan ended; one under other conditions than planned is none of it."""
    if isinstance(outcome, FailureRecord):
        return outcome.status
    return OTHER if plan.differences(outcome) else DONE


def entries_of(plan: SavedPlan, lines: Sequence[Mapping[str, Any]], runs: Path) -> list[Entry]:
    """Every run that was begun, in that order, then those of the plan that were not."""
    outcomes = outcomes_of(plan, runs)
    last = {line["run_id"]: line for line in lines if line["event"] in ("run_started", "run_ended")}
    ours, entries = plan.runs, []
    for run_id, line in last.items():
        if run_id not in ours:
            continue
        outcome = outcomes.get(run_id)
        if isinstance(outcome, RunRecord):
            status = status_of(outcome, plan)
            entries.append(
                Entry(
                    ours[run_id],
                    status,
                    outcome.wall_sec,
                    Actual.of(outcome),
                    outcome.test_acc,
                    line.get("cost"),
                    outcome.steady_time_sec,
                )
            )
        else:
            status = line.get("status", "cut off")
            entries.append(Entry(ours[run_id], status, line.get("wall_sec"), cost=line.get("cost")))
    return entries + [Entry(run, NOT_STARTED) for run in plan.chosen if run.planned.run_id not in last]


def result_lines(result: PlanResult) -> list[str]:
    """Planned against actual, run by run and in all."""
    unit = result.plan.budget.unit
    costs = [] if unit == SECONDS else [f"planned {unit.word}", f"actual {unit.word}"]
    parts = ["overhead", "first epoch", "steady s/epoch"]
    header = ["configuration", "", "planned s", "actual s", "ratio", *costs, *parts, "acc"]
    rows: list[list[object]] = []
    for entry in result.entries:
        candidate = entry.run.candidate
        ratio = None if entry.wall_sec is None else entry.wall_sec / candidate.total_sec
        pairs: list[object] = [None] * 3
        if entry.actual is not None:
            pairs = [
                f"{significant(took)} ({significant(getattr(candidate, part).value)})"
                for part, took in _parts_of(entry).items()
                if part in PARTS
            ]
        seconds = [candidate.total_sec, entry.wall_sec, ratio]
        own = [candidate.cost, entry.cost] if costs else []
        rows.append([str(candidate.config), entry.status, *seconds, *own, *pairs, entry.test_acc])
    plan, done = result.plan, [entry for entry in result.entries if entry.status == DONE]
    lines = ["", "planned against actual (what was planned in brackets):", table_text(header, rows), ""]
    if done:
        planned = sum(entry.run.candidate.total_sec for entry in done)
        actual = sum(entry.wall_sec or 0.0 for entry in done)
        lines.append(
            f"done: {len(done)} runs in {significant(actual, 4)} s, planned {significant(planned, 4)} s "
            f"({actual / planned - 1:+.1%})"
        )
    planned_runs = {run.planned.run_id for run in plan.chosen}
    added = sum(entry.run.planned.run_id not in planned_runs for entry in done)
    missing = [entry for entry in result.entries if entry.status != DONE]
    lines += [
        f"value ({plan.value.name}), as planned: {significant(result.value, 4)} done of "
        f"{significant(_value_of(plan, plan.chosen), 4)}" + (f", {added} added" if added else ""),
        f"used: {plan.budget.used(result.used)} ({percent(result.used / plan.budget.amount)})"
        + (", over the budget" if result.used > plan.budget.amount else ""),
    ]
    if missing and result.taken.was_interrupted:
        lines.append("interrupted: the same command goes on from here")
    elif missing:
        lines.append(f"not done: {len(missing)}; what did not fit the rest of the budget was not started")
    return lines


def _parts_of(entry: Entry) -> dict[str, float]:
    """Seconds that a run took, part by part: `steady` is its steady time per epoch, `epoch_mean` that with stalls."""
    assert entry.actual is not None
    mean_sec = entry.actual.steady
    steady_sec = mean_sec if entry.steady_time_sec is None else entry.steady_time_sec
    return asdict(entry.actual) | {"steady": steady_sec, "epoch_mean": mean_sec}


def _value_of(plan: SavedPlan, runs: Sequence[PlanRun]) -> float:
    """Return the value of runs of a plan: their sum, the best one, or the variance explained."""
    values = [run.candidate.value for run in runs]
    if plan.value.combination is Combination.SUM:
        return sum(values)
    if plan.value.combination is Combination.BEST:
        return max(values, default=0.0)
    from epochcast.planner.plan.information import information  # the design behind it is slow to start

    pool = [run.candidate.config for run in (*plan.chosen, *plan.excluded)]
    return information([run.candidate.config for run in runs], pool, plan.knowledge)


def result_json(result: PlanResult) -> dict[str, Any]:
    """The same in full precision."""
    unit = result.plan.budget.unit
    return {
        "plan_id": result.plan.plan_id,
        f"budget_{unit.key}": result.plan.budget.amount,
        f"used_{unit.key}": result.used,
        "value": result.value,
        "planned_value": _value_of(result.plan, result.plan.chosen),
        "was_interrupted": result.taken.was_interrupted,
        "runs": [
            {
                "run_id": entry.run.planned.run_id,
                **asdict(entry.run.candidate.config),
                "status": entry.status,
                "planned_sec": entry.run.candidate.total_sec,
                "actual_sec": entry.wall_sec,
                **(
                    {}
                    if unit == SECONDS
                    else {f"planned_{unit.key}": entry.run.candidate.cost, f"actual_{unit.key}": entry.cost}
                ),
                "planned": {part: getattr(entry.run.candidate, part).value for part in PARTS},
                "actual": None if entry.actual is None else _parts_of(entry),
            }
            for entry in result.entries
        ],
    }


@dataclass(frozen=True, slots=True)
class Expected:
    """One run that would be done, or not for want of budget: then `start` is None."""

    run: PlanRun
    sec: float
    cost: float  # the same in the unit of the budget
    start: float | None  # how much of the budget is used by then


def dry_lines(plan: SavedPlan, used: float, expected: Sequence[Expected]) -> list[str]:
    """What would be run now, and when."""
    unit = plan.budget.unit
    rows = [
        [str(e.run.candidate.config), "does not fit" if e.start is None else e.start, e.cost]
        + ([] if unit == SECONDS else [e.sec])
        for e in expected
    ]
    header = ["configuration", f"starts at {unit.word}", f"takes {unit.word}"] + (
        [] if unit == SECONDS else ["takes s"]
    )
    return [
        f"{plan.plan_id}: {plan.budget.used(used)} used",
        table_text(header, rows) if rows else "nothing left to run",
        f"expected end: {plan.budget.used(_end(used, expected))}",
    ]


def dry_json(plan: SavedPlan, used: float, expected: Sequence[Expected]) -> dict[str, Any]:
    """The same in full precision."""
    key = plan.budget.unit.key
    return {
        "plan_id": plan.plan_id,
        f"budget_{key}": plan.budget.amount,
        f"used_{key}": used,
        f"expected_end_{key}": _end(used, expected),
        "runs": [
            {
                "run_id": e.run.planned.run_id,
                **asdict(e.run.candidate.config),
                f"start_{key}": e.start,
                "expected_sec": e.sec,
                f"expected_{key}": e.cost,
            }
            for e in expected
        ],
    }


def _end(used: float, expected: Sequence[Expected]) -> float:
    return used + math.fsum(e.cost for e in expected if e.start is not None)
