"""Runs measured one after the other: what a grid and a plan share. They differ in which run comes next.

Each run is made by an executor: a function that measures this spec under this name in this place, and gives back the
row or the failure. `collect.run.runner.run` is the one that measures on this box. Another one is a function of the same
parameters, handed to `measure_sequence`: one for another machine sends the spec (`dataclasses.asdict`), the name and
the place (`RunPlace.to_json`) as JSON, has `run` called there, and appends the row that comes back to the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.records.append_rows import RunExistsError
from epochcast.collect.records.recovery import recover
from epochcast.collect.records.reserved import RunClaimedError
from epochcast.collect.run.child import noted_interrupts
from epochcast.collect.run.listener import SILENT, Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.output.text import significant
from epochcast.schema import FailureRecord, RunRecord, RunSpec
from epochcast.storage.table_appends import check_appendable


@dataclass(frozen=True, slots=True)
class NextRun:
    """The next run of a sequence, and after how many seconds it is ended; None: not at all."""

    planned: PlannedRun
    timeout_sec: float | None = None


class RunSequence(Protocol):
    """Chooses the run that comes next, and hears how each ended."""

    def next_run(self) -> NextRun | None:
        """Return the next run; None when there is none left."""

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        """Hear that a run finished or failed."""

    def left_to_another(self, planned: PlannedRun) -> None:
        """Hear that a run is measured, or has been, by another process."""


class Executor(Protocol):
    """Measures one spec under a name in a place; as `collect.run.runner.run`."""

    def __call__(
        self,
        spec: RunSpec,
        run_id: str,
        place: RunPlace,
        listener: Listener,
        *,
        timeout_sec: float | None,
        interrupts: Sequence[int],
    ) -> RunRecord | FailureRecord:
        """Return the row, appended to the place's table, or the failure."""


@dataclass(slots=True)
class SequenceResult:
    """What was done: rows measured now, failures, runs left to another process, and whether it was stopped."""

    measured: list[RunRecord] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    n_elsewhere: int = 0
    was_interrupted: bool = False


def make_ready(place: RunPlace, report: Callable[[str], None]) -> None:
    """Check that rows can be appended, and append those that were measured before but are not in the table.

    Raises:
        ValueError, OSError: if the table can't be read or appended to.
    """
    check_appendable(place.runs, RunRecord)
    found = recover(place.runs, place.log_dir)
    for record in found.appended:
        report(f"recovered {record.run_id}, measured before but not in the table")
    for problem in found.unreadable:
        report(f"skipped {problem}")


def measure_sequence(
    sequence: RunSequence,
    result: SequenceResult,
    place: RunPlace,
    listener: Listener = SILENT,
    execute: Executor | None = None,
) -> None:
    """Measure run after run until none is left or somebody interrupts; add what was done to `result`.

    Args:
        execute: what makes a run; None for `run`, on this box.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        DeviceBusyError: if another run was on the device for all of the wait.
        ValueError, OSError: if a table can't be read or appended to.
    """
    execute = execute or run
    with noted_interrupts() as interrupts:
        while not interrupts and (following := sequence.next_run()) is not None:
            planned = following.planned
            try:
                outcome = execute(
                    planned.spec,
                    planned.run_id,
                    place,
                    listener,
                    timeout_sec=following.timeout_sec,
                    interrupts=interrupts,
                )
            except (RunClaimedError, RunExistsError):
                result.n_elsewhere += 1
                sequence.left_to_another(planned)
                continue
            if isinstance(outcome, RunRecord):
                result.measured.append(outcome)
            else:
                result.failures.append(outcome)
            sequence.ended(planned, outcome)
            if isinstance(outcome, FailureRecord) and outcome.status == "interrupted":
                result.was_interrupted = True
                break
        result.was_interrupted |= bool(interrupts)


def outcome_text(outcome: RunRecord | FailureRecord) -> str:
    """Return in a line how a run ended; the time is its steady time per epoch, as in every table of ours."""
    name = str(outcome.config)
    if isinstance(outcome, FailureRecord):
        return f"{outcome.status.upper()} {name}: {outcome.message[:120]}"
    flags = f" [{', '.join(outcome.flags)}]" if outcome.flags else ""
    assert outcome.steady_time_sec is not None and outcome.wall_sec is not None and outcome.train_n is not None
    extrapolated = (
        "" if outcome.window_steps is None else f" (extrapolated from windows of {outcome.window_steps} steps)"
    )
    return (
        f"{name}: steady {significant(outcome.steady_time_sec)} s/epoch{extrapolated}, "
        f"{significant(outcome.train_n / outcome.steady_time_sec)} images/s, "
        f"{significant(outcome.wall_sec)} s in all{flags}"
    )
