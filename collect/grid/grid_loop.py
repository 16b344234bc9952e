"""The runs of a grid, one after the other in random order: what is left to do, what fits, what is done once more."""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from epochcast.collect.grid.memory_fit import sort_by_fit
from epochcast.collect.grid.repeats import AGAIN, Repeats
from epochcast.collect.grid.result import GridResult, closing_line, opening_line
from epochcast.collect.grid.sequence import NextRun, make_ready, measure_sequence, outcome_text
from epochcast.collect.grid.specs import PlannedRun, grid_name, names_of_run
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.collect.run.listener import SILENT, Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import require_device
from epochcast.machine.packages import backend_name
from epochcast.output.text import clock
from epochcast.paths import failures_csv
from epochcast.schema import REPEATED_STATUSES, FailureRecord, RunRecord
from epochcast.storage.tables import read_table_if_any

Names = Callable[[PlannedRun], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a grid stops, in seconds from its start: it begins no run after one time, and none goes on after another."""

    run_sec: float | None = None  # a run that takes longer is ended
    begin_sec: float = math.inf
    end_sec: float = math.inf  # nor is one begun that is not expected to be done by then


@dataclass(frozen=True, slots=True)
class GridOptions:
    """What of a grid is measured, in which order, and when it stops.

    Attributes:
        order_seed: of the random order.
        repeats_flagged: measure disturbed runs once more where that may help.
        forces_again: measure every disturbed run once more.
        retries_crashed: measure crashed runs once more too.
        device_memory_bytes: what will not fit into this is left out; None: as the box or the rows say.
        ignores_memory: leave out nothing for its size.
        is_dry: report what would be measured, and measure nothing.
    """

    order_seed: int = 0
    limits: Limits = Limits()
    repeats_flagged: bool = False
    forces_again: bool = False
    retries_crashed: bool = False
    device_memory_bytes: int | None = None
    ignores_memory: bool = False
    is_dry: bool = False


DEFAULT_OPTIONS = GridOptions()


class _GridSequence:
    """The runs left to do, in random order, then those measured once more, with the time that is left."""

    def __init__(
        self,
        waiting: Sequence[PlannedRun],
        repeats: Repeats | None,
        estimate: WallEstimate,
        limits: Limits,
        result: GridResult,
        report: Callable[[str], None],
    ) -> None:
        self._waiting, self._repeats, self._estimate, self._limits = waiting, repeats, estimate, limits
        self._result, self._report = result, report
        self._start = time.monotonic()
        self._number = 0

    def next_run(self) -> NextRun | None:
        if self._is_over(self._waiting[self._number] if self._number < len(self._waiting) else None):
            return None
        if self._number < len(self._waiting):
            self._number += 1
            return self._following(self._waiting[self._number - 1])
        if self._repeats is None or (planned := self._repeats.next()) is None:
            return None
        self._result.n_once_more += 1
        return self._following(planned)

    def _is_over(self, planned: PlannedRun | None) -> bool:
        """Whether no further run is begun for want of time."""
        used_sec = time.monotonic() - self._start
        if planned is None and self._repeats is not None:
            planned = next(iter(self._repeats.left), None)
        needed_sec = 0.0 if planned is None else self._estimate.expected_sec(planned.spec)
        is_over = used_sec >= self._limits.begin_sec or used_sec + needed_sec >= self._limits.end_sec
        if is_over:
            self._result.is_out_of_time = self._number < len(self._waiting)
            if self._repeats is not None:
                self._repeats.stop("the time is up")
        return is_over

    def _following(self, planned: PlannedRun) -> NextRun:
        left_sec = self._limits.end_sec - (time.monotonic() - self._start)
        timeout_sec = min(self._limits.run_sec or math.inf, left_sec)
        return NextRun(planned, None if math.isinf(timeout_sec) else timeout_sec)

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        if isinstance(outcome, RunRecord):
            self._estimate.add(planned.spec, outcome.wall_sec or 0.0)
            if self._repeats is not None and not planned.run_id.endswith(AGAIN):
                self._repeats.saw(planned, outcome)
        later = [*self._waiting[self._number :], *(() if self._repeats is None else self._repeats.left)]
        left_sec = sum(self._estimate.expected_sec(each.spec) for each in later)
        self._report(f"{self._number_text(planned)} {outcome_text(outcome)}; {clock(left_sec)} left")

    def left_to_another(self, planned: PlannedRun) -> None:
        self._report(f"{self._number_text(planned)} {planned.spec.config} is measured by another process: left to it")

    def _number_text(self, planned: PlannedRun) -> str:
        if self._repeats is not None and planned.run_id.endswith(AGAIN):
            return self._repeats.number_text
        return f"[{self._number}/{len(self._waiting)}]"


def run_grid(
    planned: Sequence[PlannedRun],
    place: RunPlace,
    options: GridOptions = DEFAULT_OPTIONS,
    listener: Listener = SILENT,
) -> GridResult:
    """Measure what of a grid is not measured yet; its rows get the name of the grid.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        DeviceBusyError: if another run was on the device for all of the wait.
        ValueError, OSError: if a table can't be read or appended to.
    """
    place, report = replace(place, grid_id=grid_name(planned)), listener.report
    if not options.is_dry:
        make_ready(place, report)
    rows = read_table_if_any(place.runs, RunRecord)
    result = GridResult()
    repeated = {*REPEATED_STATUSES, "crash"} if options.retries_crashed else set(REPEATED_STATUSES)
    last_status = {f.run_id: f.status for f in read_table_if_any(failures_csv(place.runs), FailureRecord)}
    ended = {row.run_id for row in rows} | {run_id for run_id, status in last_status.items() if status not in repeated}
    names = _names_among(rows)
    waiting = _left_to_do(planned, rows, ended, names, result)
    repeats = None
    if options.repeats_flagged or options.forces_again:
        repeats = _repeats_of(planned, rows, ended, names, options.forces_again, report)
    for spec in {item.spec.device: item.spec for item in waiting}.values():
        require_device(spec)  # an estimate would be of another device
    memory_lines: list[str] = []
    if not options.ignores_memory:
        fitting = sort_by_fit(waiting, rows, options.device_memory_bytes)
        waiting, result.too_large, memory_lines = fitting.kept, fitting.too_large, fitting.lines
    random.Random(options.order_seed).shuffle(waiting)
    estimate = WallEstimate(rows, {item.spec.device for item in planned})
    report(opening_line(str(place.grid_id), planned, waiting, repeats, estimate, result))
    for line in memory_lines:
        report(line)
    if options.is_dry:
        return result
    start = time.monotonic()
    sequence = _GridSequence(waiting, repeats, estimate, options.limits, result, report)
    measure_sequence(sequence, result, place, listener)
    if repeats is not None and (passed_over := repeats.closing_line()) is not None:
        report(passed_over)
    report(closing_line(result, len(waiting), time.monotonic() - start, place.runs))
    return result


def _names_among(rows: Sequence[RunRecord]) -> Names:
    """Return the names by which rows may know a run, found once for each: also as its driver, or we, called it once."""
    device_names = {row.device_name for row in rows if row.device_name is not None}
    backend = backend_name()
    others = {row.run_id for row in rows if row.backend not in (None, backend)}

    @functools.cache
    def names(item: PlannedRun) -> frozenset[str]:
        return frozenset(names_of_run(item, device_names) - others | {item.run_id})

    return names


def _left_to_do(
    planned: Sequence[PlannedRun], rows: Sequence[RunRecord], ended: Set[str | None], names: Names, result: GridResult
) -> list[PlannedRun]:
    """The runs without a row, less those that last ended in a way that is not repeated; counts them in `result`."""
    finished = {row.run_id for row in rows}
    waiting = []
    for item in planned:
        if item.run_id in finished or (ended and not finished.isdisjoint(names(item))):
            result.n_done_before += 1
        elif ended and not ended.isdisjoint(names(item)):
            result.n_failed_before += 1
        else:
            waiting.append(item)
    return waiting


def _repeats_of(
    planned: Sequence[PlannedRun],
    rows: Sequence[RunRecord],
    ended: Set[str | None],
    names: Names,
    forced: bool,
    report: Callable[[str], None],
) -> Repeats:
    """What may be measured once more, as far as the rows of earlier calls say."""
    by_id = {row.run_id: row for row in rows if row.run_id is not None}
    if not by_id:
        return Repeats(len(planned), 0, forced, report)

    def names_again(item: PlannedRun) -> set[str]:
        return {name + AGAIN for name in names(item)}

    found = Repeats(
        len(planned), sum(not by_id.keys().isdisjoint(names_again(item)) for item in planned), forced, report
    )
    for item in planned:
        if own := names(item) & by_id.keys():
            found.saw(item, by_id[min(own)], not ended.isdisjoint(names_again(item)))
    return found
