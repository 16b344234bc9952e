"""The runs of a grid, one after the other in random order: what is left to do, what fits, what is done once more."""

from __future__ import annotations

import functools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from epochcast.collect.grid.memory_fit import sort_by_fit
from epochcast.collect.grid.repeats import AGAIN, Repeats
from epochcast.collect.grid.sequence import Taken, Turn, make_ready, outcome_text, take_turns
from epochcast.collect.grid.specs import PlannedRun, grid_name, names_of_run
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.collect.run.child import CHILD
from epochcast.collect.run.device_lock import WAITING, Sharing
from epochcast.collect.run.runner import require_device
from epochcast.machine.packages import backend_name
from epochcast.output.text import clock
from epochcast.paths import failures_csv
from epochcast.schema import FLAGS, REPEATED_STATUSES, FailureRecord, RunRecord
from epochcast.storage.tables import read_table_if_any

Names = Callable[[PlannedRun], frozenset[str]]


@dataclass(slots=True)
class GridResult(Taken):
    """What a grid did, how many of its runs were measured before, or failed for good, and which were left out."""

    n_done_before: int = 0
    n_failed_before: int = 0
    n_once_more: int = 0  # runs that were begun once more, as something had disturbed them
    is_out_of_time: bool = False  # runs are left that were not begun for want of time
    too_large: list[PlannedRun] = field(default_factory=list)  # left out: they will not fit into the device's memory


@dataclass(frozen=True, slots=True)
class Limits:
    """When a grid stops, in seconds from its start: it begins no run after one time, and none goes on after another."""

    run_sec: float | None = None  # a run that takes longer is ended
    begin_sec: float = math.inf
    end_sec: float = math.inf  # nor is one begun that is not expected to be done by then


class _GridTurns:
    """The runs left to do, in random order, then those measured once more, with the time that is left."""

    def __init__(
        self,
        waiting: Sequence[PlannedRun],
        repeats: Repeats | None,
        estimate: WallEstimate,
        limits: Limits,
        result: GridResult,
        say: Callable[[str], None],
    ) -> None:
        self._waiting, self._repeats, self._estimate, self._limits = waiting, repeats, estimate, limits
        self._result, self._say = result, say
        self._start = time.monotonic()
        self._number = 0

    def next_turn(self) -> Turn | None:
        if self._is_over(self._waiting[self._number] if self._number < len(self._waiting) else None):
            return None
        if self._number < len(self._waiting):
            self._number += 1
            return self._turn(self._waiting[self._number - 1])
        if self._repeats is None or (planned := self._repeats.next()) is None:
            return None
        self._result.n_once_more += 1
        return self._turn(planned)

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

    def _turn(self, planned: PlannedRun) -> Turn:
        left_sec = self._limits.end_sec - (time.monotonic() - self._start)
        timeout_sec = min(self._limits.run_sec or math.inf, left_sec)
        return Turn(planned, None if math.isinf(timeout_sec) else timeout_sec)

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        if isinstance(outcome, RunRecord):
            self._estimate.add(planned.spec, outcome.wall_sec or 0.0)
            if self._repeats is not None and not planned.run_id.endswith(AGAIN):
                self._repeats.saw(planned, outcome)
        later = [*self._waiting[self._number :], *(() if self._repeats is None else self._repeats.left)]
        left_sec = sum(self._estimate.expected_sec(each.spec) for each in later)
        self._say(f"{self._place(planned)} {outcome_text(outcome)}; {clock(left_sec)} left")

    def left_to_another(self, planned: PlannedRun) -> None:
        self._say(f"{self._place(planned)} {planned.spec.config} is measured by another process: left to it")

    def _place(self, planned: PlannedRun) -> str:
        if self._repeats is not None and planned.run_id.endswith(AGAIN):
            return self._repeats.place
        return f"[{self._number}/{len(self._waiting)}]"


def run_grid(
    planned: Sequence[PlannedRun],
    *,
    runs: Path,
    log_dir: Path,
    order_seed: int = 0,
    timeout_sec: float | None = None,
    idle_sec: float = 0.0,
    repeats_flagged: bool = False,
    forces_again: bool = False,
    stop_after_sec: float | None = None,
    end_after_sec: float | None = None,
    device_memory_bytes: int | None = None,
    ignores_memory: bool = False,
    is_dry: bool = False,
    retries_crashed: bool = False,
    sharing: Sharing = WAITING,
    child: Sequence[str] = CHILD,
    say: Callable[[str], None] = lambda line: None,
    on_output: Callable[[bytes], None] = lambda data: None,
) -> GridResult:
    """Measure what is not measured yet, and with `repeats_flagged` disturbed runs once more where that may help.

    With `forces_again` every disturbed run is measured once more. After `stop_after_sec` no further run is begun; after
    `end_after_sec` none goes on, nor is one begun that is not expected to be done by then. What will not fit into the
    device's memory (the given one, else as the box or the rows tell) is left out, unless `ignores_memory`. `say` gets
    the lines a person should see.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        DeviceBusyError: if another run was on the device for all of the wait.
        ValueError, OSError: if a table can't be read or appended to.
    """
    grid_id = grid_name(planned)
    if not is_dry:
        make_ready(runs, log_dir, say)
    rows = read_table_if_any(runs, RunRecord)
    result = GridResult()
    repeated = {*REPEATED_STATUSES, "crash"} if retries_crashed else set(REPEATED_STATUSES)
    last_status = {f.run_id: f.status for f in read_table_if_any(failures_csv(runs), FailureRecord)}
    ended = {row.run_id for row in rows} | {run_id for run_id, status in last_status.items() if status not in repeated}
    names = _names_among(rows)
    waiting = _left_to_do(planned, rows, ended, names, result)
    repeats = _repeats_of(planned, rows, ended, names, forces_again, say) if repeats_flagged or forces_again else None
    for spec in {item.spec.device: item.spec for item in waiting}.values():
        require_device(spec)  # an estimate would be of another device
    memory_lines: list[str] = []
    if not ignores_memory:
        fitting = sort_by_fit(waiting, rows, device_memory_bytes)
        waiting, result.too_large, memory_lines = fitting.kept, fitting.too_large, fitting.lines
    random.Random(order_seed).shuffle(waiting)
    estimate = WallEstimate(rows, {item.spec.device for item in planned})
    say(_opening_line(grid_id, planned, waiting, repeats, estimate, result))
    for line in memory_lines:
        say(line)
    if is_dry:
        return result
    start = time.monotonic()
    limits = Limits(
        timeout_sec,
        math.inf if stop_after_sec is None else stop_after_sec,
        math.inf if end_after_sec is None else end_after_sec,
    )
    take_turns(
        _GridTurns(waiting, repeats, estimate, limits, result, say),
        result,
        runs=runs,
        log_dir=log_dir,
        grid_id=grid_id,
        idle_sec=idle_sec,
        child=child,
        on_output=on_output,
        sharing=replace(sharing, say=say),
    )
    if repeats is not None and (passed_over := repeats.closing_line()) is not None:
        say(passed_over)
    say(_closing_line(result, len(waiting), time.monotonic() - start, runs))
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
    say: Callable[[str], None],
) -> Repeats:
    """What may be measured once more, as far as the rows of earlier calls say."""
    by_id = {row.run_id: row for row in rows if row.run_id is not None}
    if not by_id:
        return Repeats(len(planned), 0, forced, say)

    def names_again(item: PlannedRun) -> set[str]:
        return {name + AGAIN for name in names(item)}

    found = Repeats(len(planned), sum(not by_id.keys().isdisjoint(names_again(item)) for item in planned), forced, say)
    for item in planned:
        if own := names(item) & by_id.keys():
            found.saw(item, by_id[min(own)], not ended.isdisjoint(names_again(item)))
    return found


def _opening_line(
    grid_id: str,
    planned: Sequence[PlannedRun],
    waiting: Sequence[PlannedRun],
    repeats: Repeats | None,
    estimate: WallEstimate,
    result: GridResult,
) -> str:
    left_out = []
    if result.n_done_before:
        left_out.append(f"{result.n_done_before} measured before")
    if result.n_failed_before:
        left_out.append(f"{result.n_failed_before} out of memory or crashed before")
    if result.too_large:
        left_out.append(f"{len(result.too_large)} left out: too large")
    line = f"{grid_id}: {len(planned)} run{'s' if len(planned) > 1 else ''}" + (
        f" ({', '.join(left_out)})" if left_out else ""
    )
    if not waiting:
        n_flagged = 0 if repeats is None else repeats.n_disturbed
        return f"{line}, nothing left to measure" + (
            f" but {n_flagged} flagged, once more where that may help" if n_flagged else ""
        )
    expected_sec = sum(estimate.expected_sec(item.spec) for item in waiting)
    most_sec = expected_sec
    if repeats is not None:
        longest = sorted((estimate.expected_sec(item.spec) for item in planned), reverse=True)
        most_sec += sum(longest[: repeats.most])
    more = f" (up to {clock(most_sec)} if runs are disturbed and measured again)" if most_sec > expected_sec else ""
    until = datetime.now().astimezone() + timedelta(seconds=expected_sec)
    return (
        f"{line}, {len(waiting)} to measure, about {clock(expected_sec)}{more}, until {until:%Y-%m-%d %H:%M}; "
        f"{estimate.basis}"
    )


def _closing_line(result: GridResult, n_runs: int, elapsed_sec: float, runs: Path) -> str:
    once_more = [row for row in result.measured if row.run_id is not None and row.run_id.endswith(AGAIN)]
    measured = f"{len(result.measured) - len(once_more)} of {n_runs} runs measured"
    if once_more:
        measured += f" and {len(once_more)} once more"
    parts = [f"{measured} in {clock(elapsed_sec)}"]
    parts += [f"{n} {status}" for status, n in Counter(f.status for f in result.failures).items()]
    if result.n_elsewhere:
        parts.append(f"{result.n_elsewhere} left to another process")
    if result.too_large:
        parts.append(f"{len(result.too_large)} left out as too large for the device's memory")
    flagged = sum(bool(row.flags) for row in result.measured)
    counts = Counter(flag for row in result.measured for flag in row.flags)
    by_flag = ", ".join(f"{flag} {counts[flag]}" for flag in FLAGS if counts[flag])
    parts.append(f"{flagged} flagged ({by_flag})" if flagged else "none flagged")
    tables = f"rows in {runs.absolute()}"
    if result.failures:
        tables += f", failures in {failures_csv(runs).absolute()}"
    if result.was_interrupted:
        parts.append("interrupted: the same command goes on from here")
    elif result.is_out_of_time:
        parts.append("the time is up: the same command goes on from here")
    return f"{', '.join(parts)}; {tables}"
