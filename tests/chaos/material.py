"""Rows and tables that can be told apart: every row of a try differs from every other one, in every part of it."""

from __future__ import annotations

from collections.abc import Callable

from epochcast.live.fits import FitRecord
from epochcast.schema import FailureRecord, RunRecord
from tests.support.rows import failure_row, fit_row, run_row

CONFIGS = [(2, 16, 64), (2, 16, 256), (2, 32, 64), (3, 32, 64), (3, 16, 256), (3, 32, 128)]


def row_of(name: str, number: int, config: tuple[int, int, int] | None = None) -> RunRecord:
    """A whole row, with a value in its last columns too, that no other name and number give."""
    times = (9.0 + number / 7, 2.0 + number / 1013, 2.0 + number / 977)
    return run_row(
        times,
        config=config or CONFIGS[number % len(CONFIGS)],
        run_id=f"{name}-{number}",
        test_acc=0.5 + (number % 1000) / 3001,
        wall_sec=40.0 + number / 3,
        overhead_sec=20.0 + number / 11,
        git_commit=f"{number:040x}",
        device_memory_bytes=80_000_000_000 + number,
    )


def failure_of(name: str, number: int, status: str = "oom") -> FailureRecord:
    return failure_row(run_id=f"{name}-{number}", status=status, epoch_times_json=(1.0 + number, 2.0))


def fit_of(name: str, number: int) -> FitRecord:
    """A row of fits.csv with a value in its last columns too, that no other name and number give."""
    return fit_row(
        run_id=f"{name}-{number}",
        timed_epoch_sec=2.0 + number / 1013,
        total_sec=80.0 + number / 7,
        params=1000 + number,
        sample_shape=("32x32x3", f"{number + 1}"),
        source=f"/home/someone/train_{name}_{number}.py",
    )


MAKERS: dict[str, Callable[[str, int], RunRecord | FitRecord]] = {"runs.csv": row_of, "fits.csv": fit_of}  # by table
