"""What of a plan earlier sessions did, or somebody outside of them: rows, failures, a run that was cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epochcast.collect.grid.sequence import outcome_text
from epochcast.planner.execution.budget_used import cost_of, energy_ratio
from epochcast.planner.execution.ledger import DONE, Ledger
from epochcast.planner.execution.result import outcomes_of, status_of
from epochcast.planner.execution.schedule import Actual, Schedule
from epochcast.planner.plan.plan_file import PlanRun
from epochcast.schema import REPEATED_STATUSES, FailureRecord, RunRecord

Say = Callable[[str], None]


def resume(schedule: Schedule, ledger: Ledger, runs: Path, say: Say) -> None:
    """Take up what is done of a plan already: in earlier sessions, or by somebody outside of them."""
    ours, outcomes = schedule.plan.runs, outcomes_of(schedule.plan, runs)
    noted = {(line["run_id"], line["status"]) for line in ledger.of("run_ended")}
    starts = {line["run_id"]: line for line in ledger.of("run_started")}
    has_row = {run_id for run_id, outcome in outcomes.items() if isinstance(outcome, RunRecord)}
    if lost := sorted(run_id for run_id, status in noted if status == DONE and run_id in ours.keys() - has_row):
        raise ValueError(
            f"{runs.absolute()} has no row of {lost[0]}, which is done by {ledger.path}. Name the table that has it "
            "with --runs."
        )
    cut_short, done_outside = [], []
    for run_id, outcome in outcomes.items():
        if (status := status_of(outcome, schedule.plan)) in REPEATED_STATUSES:
            continue
        if (run_id, status) in noted:
            _take(outcome, ours[run_id], schedule)
        elif run_id in starts and outcome.grid_id == schedule.plan.plan_id:  # cut off between the tables and the ledger
            cut_short.append(outcome)
        else:
            done_outside.append(outcome)
    for outcome in cut_short:  # after all that was noted: what those measured corrects what these cost
        run_id = str(outcome.run_id)
        ledger.reach(float(starts[run_id]["used_sec"]) + (outcome.wall_sec or 0.0))
        note_end(outcome, ours[run_id], schedule, ledger)
    if (cut_off := _cut_off(ledger.lines)) is not None:
        say(f"{ours[cut_off].candidate.config if cut_off in ours else cut_off} was cut off; the time it took counts")
    for outcome in done_outside:
        ledger.charge(outcome.wall_sec or 0.0)
        note_end(outcome, ours[str(outcome.run_id)], schedule, ledger, is_outside=True)
        say(f"done outside of this plan, the time it took counts: {outcome_text(outcome)}")


def _cut_off(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """The run in the middle of which the last session was killed; None if there was none."""
    marks = [line for line in lines if line["event"] in ("run_started", "run_ended", "ended")]
    return str(marks[-1]["run_id"]) if marks and marks[-1]["event"] == "run_started" else None


def _take(outcome: RunRecord | FailureRecord, run: PlanRun, schedule: Schedule) -> None:
    if isinstance(outcome, RunRecord) and status_of(outcome, schedule.plan) == DONE:
        schedule.finish(run, Actual.of(outcome), energy_ratio(outcome, run.candidate.price))
    else:
        schedule.drop([run.planned.run_id])


def note_end(
    outcome: RunRecord | FailureRecord, run: PlanRun, schedule: Schedule, ledger: Ledger, is_outside: bool = False
) -> None:
    """Write to the ledger that a run ended, and go on without it."""
    parts: dict[str, Any] = asdict(Actual.of(outcome)) if isinstance(outcome, RunRecord) else {}
    values = {"status": status_of(outcome, schedule.plan), "wall_sec": outcome.wall_sec, **parts}
    if (price := run.candidate.price) is not None:
        values |= {"cost": cost_of(outcome, price, schedule.energy_factor), "is_outside": is_outside}
    ledger.write("run_ended", run_id=run.planned.run_id, **values)
    _take(outcome, run, schedule)
