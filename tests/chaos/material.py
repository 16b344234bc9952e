"""Rows and tables that can be told apart: every row of a try differs from every other one, in every part of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rows import run_row

from epochcast.cells import columns, format_cell
from epochcast.schema import FailureRecord, RunRecord

CONFIGS = [(2, 16, 64), (2, 16, 256), (2, 32, 64), (3, 32, 64), (3, 16, 256), (3, 32, 128)]
OLD_COLUMNS = columns(RunRecord).index("flags") + 1  # those of schema 1


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
    return FailureRecord(
        timestamp_utc="2026-01-01T00:00:00+00:00",
        run_id=f"{name}-{number}",
        grid_id=None,
        status=status,
        exit_code=1,
        signal=None,
        depth=3,
        base_filters=64,
        batch_size=2048,
        epochs=3,
        epoch_times_json=(1.0 + number, 2.0),
        wall_sec=12.0,
        message="out of memory",
        spec_json="{}",
    )


def write_old(path: Path, rows: Sequence[RunRecord], n_columns: int = OLD_COLUMNS) -> None:
    """A table as schema 1 would have written it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns(RunRecord)[:n_columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[format_cell(getattr(row, name)) for name in names] for row in rows])
