"""runs_agg.csv as a cache of its runs.csv.

A record beside the table names its source, so that a command which finds the cache out of date makes it anew, and a
table that came from elsewhere, or was edited, is used as it is and called so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.source import Sources, cache_lock, read_with_record, write_averages
from epochcast.error_text import describe_error
from epochcast.gpus.device_names import with_one_name
from epochcast.paths import command_text, runs_agg_csv
from epochcast.schema import AggRow
from epochcast.storage.table_lines import cells_of, decode_table, lines_of
from epochcast.storage.tables import parse_table, read_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AggTable:
    """Aggregated rows with where they come from, in words; `source` is the runs.csv, None where there is none."""

    path: Path
    rows: list[AggRow]
    origin: str
    source: Path | None


def load_agg(path: Path, is_frozen: bool = False, keeps: bool = True) -> AggTable:
    """The rows of a runs_agg.csv, made anew where its runs.csv has changed since (or where only that exists yet).

    What is made anew is written for the next reader, unless `keeps` is false or the folder can't be written.

    Raises:
        FileNotFoundError: if there is neither such a table nor runs beside it.
        ValueError: if the table is wrong, or out of date while `is_frozen`.
    """
    path = path.absolute()
    found = _look(path)
    if isinstance(found, AggTable):
        return found
    if is_frozen:
        raise found.frozen
    if keeps:
        try:
            with cache_lock(path):
                again = _look(path)  # what another process did while we waited
                if isinstance(again, AggTable):
                    return again
                rows = write_averages(Sources.read(again.runs), path).rows
                return AggTable(path, rows, again.origin, again.runs)
        except OSError as error:  # a cache that can't be kept is no reason not to answer
            logger.warning("the averages could not be kept: %s", describe_error(error))
    return AggTable(path, aggregate(Sources.read(found.runs).table()).rows, found.origin, found.runs)


@dataclass(frozen=True, slots=True)
class _OutOfDate:
    """A table that is to be made from `runs`, with what is said of it then, and where that is forbidden."""

    runs: Path
    origin: str
    frozen: Exception


def _look(path: Path) -> AggTable | _OutOfDate:
    """The table as it stands, or from what it is to be made."""
    record, data = read_with_record(path)
    if data is None:
        beside = path.with_name("runs.csv")
        if path.name == "runs_agg.csv" and beside.exists():
            runs = beside
        elif record is not None and record.source.exists():
            runs = record.source  # killed before the table itself was written
        else:
            raise FileNotFoundError(f"{path}: no such table. Measure first: {command_text('run')}")
        forbidden: Exception = FileNotFoundError(
            f"{path}: no such table yet, and --frozen forbids to make it from {runs}."
        )
        return _OutOfDate(runs, f"made now from {runs}", forbidden)
    if record is None:
        return AggTable(path, _rows_of(path, data), "a table without a source, used as it is", None)
    runs = record.source
    if not record.is_ours(data):
        return AggTable(path, _rows_of(path, data), "a table edited since it was aggregated, used as it is", None)
    if not runs.exists():
        return AggTable(path, _rows_of(path, data), f"a table whose source {runs} is gone, used as it is", None)
    if record.is_current(data, Sources.read(runs)):
        return AggTable(path, _rows_of(path, data), f"up to date with {runs}", runs)
    forbidden = ValueError(f"{path} is older than {runs}, and --frozen forbids to make it anew.")
    return _OutOfDate(runs, f"was out of date: made anew from {runs}", forbidden)


def load_agg_if_any(path: Path | None, is_frozen: bool = False, keeps: bool = True) -> AggTable | None:
    """As `load_agg`; with no path named the default one, and None where nothing is measured yet.

    Raises:
        FileNotFoundError: if a table that was named does not exist.
        ValueError: as `load_agg`.
    """
    if path is not None:
        return load_agg(path, is_frozen, keeps)
    path = runs_agg_csv()
    runs = path.with_name("runs.csv")
    # a header alone is what a run leaves that failed or goes on
    has_any = path.exists() or (runs.exists() and bool(read_runs(runs).rows))
    return load_agg(path, is_frozen, keeps) if has_any else None


def _rows_of(path: Path, data: bytes) -> list[AggRow]:
    rows = parse_table(path, data, AggRow)
    if not rows:
        raise ValueError(f"{path} holds no row.")
    lines = (number for number, line in enumerate(lines_of(decode_table(path, data)), start=1) if cells_of(line))
    next(lines)  # the header
    named = with_one_name(rows)
    return [_without_false_spread(row, f"{path}:{number}") for row, number in zip(named, lines, strict=False)]


def _without_false_spread(row: AggRow, where: str) -> AggRow:
    """A row whose deviations are unknown where there is one run; a published table writes 0 for them."""
    if row.n > 1:
        return row
    for name in ("avg_time_std", "thr_std", "acc_std"):
        if getattr(row, name):
            logger.warning(
                "%s: n is 1 and %s is %g: one run has no spread, it is taken as unknown",
                where,
                name,
                getattr(row, name),
            )
    return replace(row, avg_time_std=None, thr_std=None, acc_std=None)
