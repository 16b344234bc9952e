"""Runs measured one after the other: what a grid and a plan share. They differ in which run comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.records.append_rows import RunExistsError
from epochcast.collect.records.recovery import recover
from epochcast.collect.records.reserved import RunClaimedError
from epochcast.collect.run.child import CHILD, noted_interrupts
from epochcast.collect.run.device_lock import WAITING, Sharing
from epochcast.collect.run.runner import run
from epochcast.output.text import significant
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.tables import check_appendable


@dataclass(frozen=True, slots=True)
class Turn:
    """The next run, and after how many seconds it is ended; None: not at all."""

    planned: PlannedRun
    timeout_sec: float | None = None


class Turns(Protocol):
    """Who says which run comes next, and hears how each ended."""

    def next_turn(self) -> Turn | None:
        """The next run; None when there is none left."""

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        """A run finished or failed."""

    def left_to_another(self, planned: PlannedRun) -> None:
        """A run is measured, or has been, by another process."""


@dataclass(slots=True)
class Taken:
    """What was done: rows measured now, failures, runs left to another process, and whether it was stopped."""

    measured: list[RunRecord] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    n_elsewhere: int = 0
    was_interrupted: bool = False


def make_ready(runs: Path, log_dir: Path, say: Callable[[str], None]) -> None:
    """Check that rows can be appended, and append those that were measured before but are not in the table.

    Raises:
        ValueError, OSError: if the table can't be read or appended to.
    """
    check_appendable(runs, RunRecord)
    found = recover(runs, log_dir)
    for record in found.appended:
        say(f"recovered {record.run_id}, measured before but not in the table")
    for problem in found.unreadable:
        say(f"skipped {problem}")


def take_turns(
    turns: Turns,
    taken: Taken,
    *,
    runs: Path,
    log_dir: Path,
    grid_id: str,
    idle_sec: float = 0.0,
    child: Sequence[str] = CHILD,
    on_output: Callable[[bytes], None] = lambda data: None,
    sharing: Sharing = WAITING,
) -> None:
    """Measure run after run, each in a process of its own, until none is left or somebody interrupts; tell in `taken`.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        DeviceBusyError: if another run was on the device for all of the wait.
        ValueError, OSError: if a table can't be read or appended to.
    """
    with noted_interrupts() as interrupts:
        while not interrupts and (turn := turns.next_turn()) is not None:
            try:
                outcome = run(
                    turn.planned.spec,
                    run_id=turn.planned.run_id,
                    runs=runs,
                    log_dir=log_dir,
                    grid_id=grid_id,
                    timeout_sec=turn.timeout_sec,
                    idle_sec=idle_sec,
                    child=child,
                    on_output=on_output,
                    interrupts=interrupts,
                    sharing=sharing,
                )
            except (RunClaimedError, RunExistsError):
                taken.n_elsewhere += 1
                turns.left_to_another(turn.planned)
                continue
            if isinstance(outcome, RunRecord):
                taken.measured.append(outcome)
            else:
                taken.failures.append(outcome)
            turns.ended(turn.planned, outcome)
            if isinstance(outcome, FailureRecord) and outcome.status == "interrupted":
                taken.was_interrupted = True
                break
        taken.was_interrupted |= bool(interrupts)


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
