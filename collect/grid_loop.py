"""The runs of a grid, one after the other in random order: what is left to do, what fits, what is done once more."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from collect.child import CHILD
from collect.device_memory import sort_by_fit
from collect.estimate import WallEstimate
from collect.grid import PlannedRun, grid_name, names_of_run
from collect.turns import Taken, Turn, make_ready, outcome_text, take_turns
from epochcast.cli import (
    clock,
)
from epochcast.paths import failures_csv
from epochcast.schema import FLAGS, REPEATED_STATUSES, FailureRecord, RunRecord
from epochcast.tables import read_table_if_any

AGAIN = "-again"  # ends the name of a run that is measured once more because the first was flagged
AGAIN_FLAGS = frozenset(FLAGS) - {"short", "diverged"}  # those two would come out the same


@dataclass(slots=True)
class GridResult(Taken):
    """What a grid did, how many of its runs were measured before, or failed for good, and which were left out."""

    n_done_before: int = 0
    n_failed_before: int = 0
    too_large: list[PlannedRun] = field(default_factory=list)  # left out: they will not fit into the device's memory


class _Shuffled:
    """The runs left to do, in random order, with the time that is left."""

    def __init__(
        self,
        waiting: Sequence[PlannedRun],
        estimate: WallEstimate,
        timeout_sec: float | None,
        repeats_flagged: bool,
        stop_at: float,
        say: Callable[[str], None],
    ) -> None:
        self._waiting, self._estimate, self._timeout_sec, self._say = list(waiting), estimate, timeout_sec, say
        self._repeats_flagged, self._stop_at = repeats_flagged, stop_at
        self._number = 0

    def next_turn(self) -> Turn | None:
        if self._number == len(self._waiting) or time.monotonic() >= self._stop_at:
            return None
        self._number += 1
        return Turn(self._waiting[self._number - 1], self._timeout_sec)

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        if isinstance(outcome, RunRecord):
            self._estimate.add(planned.spec, outcome.wall_sec or 0.0)
            if self._repeats_flagged and is_measured_again(planned.run_id, outcome):
                self._waiting.append(again(planned))
        left_sec = sum(self._estimate.expected_sec(later.spec) for later in self._waiting[self._number :])
        self._say(f"{self._place()} {outcome_text(outcome)}; {clock(left_sec)} left")

    def left_to_another(self, planned: PlannedRun) -> None:
        self._say(f"{self._place()} {planned.spec.config} is measured by another process: left to it")

    @property
    def n_runs(self) -> int:
        """Runs to do, those among them that a flag of an earlier one made necessary."""
        return len(self._waiting)

    def _place(self) -> str:
        return f"[{self._number}/{len(self._waiting)}]"


def is_measured_again(run_id: str, record: RunRecord) -> bool:
    """Whether something disturbed a run that may not come again, and it is not such a second run itself."""
    return not run_id.endswith(AGAIN) and not AGAIN_FLAGS.isdisjoint(record.flags)


def again(planned: PlannedRun) -> PlannedRun:
    """The same run under the name that tells that it is the second."""
    return PlannedRun(planned.spec, planned.run_id + AGAIN)


def run_grid(
    planned: Sequence[PlannedRun],
    *,
    runs: Path,
    log_dir: Path,
    order_seed: int = 0,
    timeout_sec: float | None = None,
    idle_sec: float = 0.0,
    repeats_flagged: bool = False,
    stop_after_sec: float | None = None,
    device_memory_bytes: int | None = None,
    ignores_memory: bool = False,
    is_dry: bool = False,
    retries_crashed: bool = False,
    child: Sequence[str] = CHILD,
    say: Callable[[str], None] = lambda line: None,
    on_output: Callable[[bytes], None] = lambda data: None,
) -> GridResult:
    """Measure what is not measured yet, and with `repeats_flagged` what was disturbed once more.

    After `stop_after_sec` no further run is begun. What will not fit into the device's memory (the given one, else as
    the box or the rows tell) is left out, unless `ignores_memory`. `say` gets the lines a person should see.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        ValueError, OSError: if a table can't be read or appended to.
    """
    grid_id = grid_name(planned)
    if not is_dry:
        make_ready(runs, log_dir, say)
    rows = read_table_if_any(runs, RunRecord)
    result = GridResult()
    repeated = {*REPEATED_STATUSES, "crash"} if retries_crashed else set(REPEATED_STATUSES)
    flagged = {row.run_id for row in rows if row.run_id is not None and is_measured_again(row.run_id, row)}
    device_names = {row.device_name for row in rows if row.device_name is not None}
    wanted = list(planned)
    if repeats_flagged:
        wanted += [again(item) for item in planned if not flagged.isdisjoint(names_of_run(item, device_names))]
    waiting = _left_to_do(wanted, rows, failures_csv(runs), repeated, result)
    memory_lines: list[str] = []
    if not ignores_memory:
        fitting = sort_by_fit(waiting, rows, device_memory_bytes)
        waiting, result.too_large, memory_lines = fitting.kept, fitting.too_large, fitting.lines
    random.Random(order_seed).shuffle(waiting)
    estimate = WallEstimate(rows, {item.spec.device for item in planned})
    say(_opening_line(grid_id, wanted, waiting, estimate, result))
    for line in memory_lines:
        say(line)
    if is_dry:
        return result
    start = time.monotonic()
    stop_at = math.inf if stop_after_sec is None else start + stop_after_sec
    shuffled = _Shuffled(waiting, estimate, timeout_sec, repeats_flagged, stop_at, say)
    take_turns(
        shuffled,
        result,
        runs=runs,
        log_dir=log_dir,
        grid_id=grid_id,
        idle_sec=idle_sec,
        child=child,
        on_output=on_output,
    )
    say(_closing_line(result, shuffled.n_runs, time.monotonic() - start, runs))
    return result


def _left_to_do(
    planned: Sequence[PlannedRun],
    rows: Sequence[RunRecord],
    failures: Path,
    repeated: set[str],
    result: GridResult,
) -> list[PlannedRun]:
    """The runs without a row, less those that last ended in a way that is not repeated; counts them in `result`."""
    finished = {row.run_id for row in rows}
    device_names = {row.device_name for row in rows if row.device_name is not None}
    last_status = {f.run_id: f.status for f in read_table_if_any(failures, FailureRecord)}
    waiting = []
    for item in planned:
        is_new = not finished and not last_status
        # also those of a driver that called the board otherwise
        names = {item.run_id} if is_new or item.run_id in finished else names_of_run(item, device_names)
        if not finished.isdisjoint(names):
            result.n_done_before += 1
        elif any(last_status[name] not in repeated for name in names & last_status.keys()):
            result.n_failed_before += 1
        else:
            waiting.append(item)
    return waiting


def _opening_line(
    grid_id: str,
    planned: Sequence[PlannedRun],
    waiting: Sequence[PlannedRun],
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
        return f"{line}, nothing left to measure"
    expected_sec = sum(estimate.expected_sec(item.spec) for item in waiting)
    until = datetime.now().astimezone() + timedelta(seconds=expected_sec)
    basis = f"scaled by {estimate.n_runs} runs of this box" if estimate.n_runs else "rough: nothing measured here yet"
    return f"{line}, {len(waiting)} to measure, about {clock(expected_sec)}, until {until:%Y-%m-%d %H:%M} ({basis})"


def _closing_line(result: GridResult, n_runs: int, elapsed_sec: float, runs: Path) -> str:
    parts = [f"{len(result.measured)} of {n_runs} runs measured in {clock(elapsed_sec)}"]
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
    return f"{', '.join(parts)}; {tables}"
