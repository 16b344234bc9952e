"""What a grid did, and the lines that open and close it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from epochcast.collect.grid.repeats import AGAIN, Repeats
from epochcast.collect.grid.sequence import SequenceResult
from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.output.text import clock
from epochcast.paths import failures_csv
from epochcast.schema import FLAGS


@dataclass(slots=True)
class GridResult(SequenceResult):
    """What a grid did, how many of its runs were measured before, or failed for good, and which were left out."""

    n_done_before: int = 0
    n_failed_before: int = 0
    n_once_more: int = 0  # runs that were begun once more, as something had disturbed them
    is_out_of_time: bool = False  # runs are left that were not begun for want of time
    too_large: list[PlannedRun] = field(default_factory=list)  # left out: they will not fit into the device's memory


def opening_line(
    grid_id: str,
    planned: Sequence[PlannedRun],
    waiting: Sequence[PlannedRun],
    repeats: Repeats | None,
    estimate: WallEstimate,
    result: GridResult,
) -> str:
    """Return what a grid will do: its runs, those left to measure, and how long they take."""
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


def closing_line(result: GridResult, n_runs: int, elapsed_sec: float, runs: Path) -> str:
    """Return what a grid did: its runs, failures and flags, and where they are."""
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
