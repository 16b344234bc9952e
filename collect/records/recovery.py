"""Find the rows of finished runs that are not in their table, and append them: after a full disk, or a kill."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.collect.records.kept import LOGGED, KeptRun, logged_runs, read_kept
from epochcast.collect.records.reserved import RunClaimedError, claimed_run
from epochcast.error_text import describe_error
from epochcast.paths import failures_csv
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.cells import CellError
from epochcast.storage.files import read_bytes
from epochcast.storage.table_appends import DuplicateRunError, append_row
from epochcast.storage.tables import read_table_if_any


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found: rows appended now, failed runs noted now, rows left to other tables, and what holds no row."""

    appended: list[RunRecord]
    failures: list[FailureRecord]
    n_elsewhere: int
    unreadable: list[str]


def recover(runs: Path, log_dir: Path, *, takes_orphans: bool = False, logs: Sequence[Path] = ()) -> Recovery:
    """Append every row kept in `log_dir` for this table that the table lacks.

    Kept is a row in `<run_id>.json`, or, where that could not be written, in the LOGGED line of `<run_id>.txt`. `logs`
    are files of captured output that hold such lines; a line there that names no table is taken for this one.
    `takes_orphans` also appends rows of tables that exist no more, which may have been moved here.

    Raises:
        ValueError, OSError: if the table can't be read or appended to, or one of `logs` can't be read.
    """
    runs = runs.absolute()
    known_runs = {row.run_id for row in read_table_if_any(runs, RunRecord)}
    known_failures = {_key(row) for row in read_table_if_any(failures_csv(runs), FailureRecord)}
    found = Recovery([], [], 0, [])
    n_elsewhere = 0
    for kept in _kept_runs(runs, log_dir, known_runs, {run_id for run_id, _ in known_failures}, logs):
        if isinstance(kept, str):
            found.unreadable.append(kept)
            continue
        record, table = kept.record, kept.table
        own = runs if isinstance(record, RunRecord) else failures_csv(runs)
        is_known = record.run_id in known_runs if isinstance(record, RunRecord) else _key(record) in known_failures
        if is_known:
            continue
        if table is None or not (_are_one(table, own) or (takes_orphans and not os.path.exists(table))):  # noqa: PTH110
            n_elsewhere += 1
            continue
        try:
            if not _append_once(own, record):
                continue
        except CellError as error:
            found.unreadable.append(f"{kept.where}: {error}")
            continue
        if isinstance(record, RunRecord):
            known_runs.add(record.run_id)
            found.appended.append(record)
        else:
            known_failures.add(_key(record))
            found.failures.append(record)
    return replace(found, n_elsewhere=n_elsewhere)


def _kept_runs(
    runs: Path, log_dir: Path, known: Container[str | None], failed: Container[str], logs: Sequence[Path]
) -> Iterator[KeptRun | str]:
    """Every row kept for some table, or what is wrong with the file that should hold one."""
    has_json = set()
    for path in sorted(log_dir.glob("*.json")):
        has_json.add(path.stem.partition("~")[0])
        try:
            yield read_kept(path)
        except (OSError, ValueError) as error:
            yield describe_error(error)
    for path in sorted(log_dir.glob("*.txt")):  # a log alone: its JSON could not be written
        if path.stem in has_json or path.stem in known:
            continue
        try:
            if path.stem not in failed or LOGGED.encode() in read_bytes(path):  # a failure that is noted is not kept
                yield from (kept for kept in logged_runs(path) if isinstance(kept, str) or kept.table is not None)
        except (OSError, ValueError) as error:
            yield describe_error(error)
    for path in logs:
        found = list(logged_runs(path))
        for kept in found:
            if isinstance(kept, KeptRun) and kept.table is None:
                yield replace(kept, table=runs if isinstance(kept.record, RunRecord) else failures_csv(runs))
            else:
                yield kept
        if not found:
            yield f"{path.absolute()}: no LOGGED and no FAILED line in it, as a run prints them"


def _are_one(table: Path, other: Path) -> bool:
    """Whether two paths lead to one place; a path that leads nowhere, or in a circle, is taken as it is written."""
    return os.path.realpath(table) == os.path.realpath(other)


def _key(failure: FailureRecord) -> tuple[str, str]:
    return failure.run_id, failure.timestamp_utc


def _append_once(table: Path, record: RunRecord | FailureRecord) -> bool:
    """Append a kept row unless another process has done so by now, or is about to."""
    try:
        with claimed_run(table, str(record.run_id)):
            append_row(table, record)
            return True
    except (RunClaimedError, DuplicateRunError):
        return False
