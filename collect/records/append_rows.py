"""Append the row of a run to its table, and keep it elsewhere where that fails: no finished run is lost."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epochcast.collect.records.kept import (
    FAILED,
    LOGGED,
    free_name,
    kept_bytes,
    kept_files,
    lines_of_row,
    read_kept,
    recover_command,
)
from epochcast.collect.records.reserved import Space
from epochcast.paths import failures_csv
from epochcast.schema import FailureRecord, RunRecord, to_json_dict
from epochcast.storage.table_appends import DuplicateRunError, append_row
from epochcast.storage.tables import read_table

logger = logging.getLogger(__name__)


class RunExistsError(ValueError):
    """The table holds a run of this run_id already."""


def check_is_new(run_id: str, runs: Path, log_dir: Path) -> list[RunRecord]:
    """Return the table's rows; raise if the run is among them, or will be after a recovery. The claim is kept.

    Raises:
        RunExistsError: if the table holds the run.
        ValueError: if `log_dir` keeps a finished run of this name that is not in the table.
    """
    rows = read_table(runs, RunRecord)
    if any(row.run_id == run_id for row in rows):
        raise RunExistsError(f"{runs} holds a run {run_id} already. Choose another --run_id, or leave it out.")
    for path in kept_files(log_dir, run_id):
        try:
            table = read_kept(path).table
        except (OSError, ValueError):
            continue  # none that a recovery could use; it is not written over
        if table is not None and os.path.realpath(table) == os.path.realpath(runs):
            raise ValueError(
                f"{path} keeps a finished run {run_id} that is not in {runs}. Append it with "
                f"`{recover_command(runs, log_dir)}`, or choose another --run_id."
            )
    return rows


def append_failure(failure: FailureRecord, runs: Path, log_dir: Path, report: Callable[[str], None]) -> None:
    """Report the row of a failed run, for its log, and append it to the table of failures.

    Raises:
        OSError: if it could not be appended; the message says how to append it later.
    """
    failures = failures_csv(runs)
    lines = lines_of_row(FAILED, to_json_dict(failure), failures)
    for line in lines:
        report(line)
    try:
        append_row(failures, failure)
    except (OSError, ValueError) as error:
        _print_last_copy(lines)
        command = recover_command(runs, log_dir, "--log", "FILE")
        raise OSError(
            f"the run {failure.run_id} ended as {failure.status} and could not be noted in {failures}: {error}. The "
            f"FAILED line above holds its epochs: mend that, save the line to a file, and say `{command}`."
        ) from error


def append_finished(
    record: RunRecord, kept: Mapping[str, Any], runs: Path, log_dir: Path, space: Space, report: Callable[[str], None]
) -> None:
    """Write a finished run where it can't be lost: its JSON first, then the table, then the log.

    Args:
        kept: what the JSON holds, `row` among it.

    Raises:
        RunExistsError: if another process appended a run of this name meanwhile.
        OSError: if the row could not be appended; the message says where it is kept.
    """
    sidecar_problem = table_problem = None
    sidecar = free_name(log_dir, str(record.run_id))
    try:
        space.write_json(sidecar, kept_bytes(kept))
    except (OSError, ValueError) as error:
        sidecar_problem = error
    try:
        append_row(runs, record)
    except (OSError, ValueError) as error:
        table_problem = error
    lines = lines_of_row(LOGGED, kept["row"], runs)
    for line in lines:
        report(line)
    if table_problem is None:
        if sidecar_problem is not None:
            report(f"WARNING: {sidecar_problem}; the row is in the table all the same")
        return
    if isinstance(table_problem, DuplicateRunError):
        text = f"{table_problem} Another process measured it meanwhile; this one is kept in {sidecar} and not appended."
        logger.warning("%s", text)
        raise RunExistsError(text)
    rescue = f"It is kept in {sidecar}: mend that, then say `{recover_command(runs, log_dir)}`."
    if sidecar_problem is not None:
        _print_last_copy(lines)  # whatever the caller does with our lines
        rescue = (
            f"Neither could {sidecar} be written: the LOGGED line above is the only copy. Save it to a file, mend "
            f"that, then say `{recover_command(runs, log_dir, '--log', 'FILE')}`."
        )
    raise OSError(f"the finished run {record.run_id} is not in {runs}: {table_problem}. {rescue}") from table_problem


def _print_last_copy(lines: Sequence[str]) -> None:
    """Print on the standard error stream itself, or where that leads nowhere on the standard output."""
    data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    nowhere = Path(os.devnull).stat().st_rdev
    for descriptor in (2, 1):
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_rdev != nowhere and os.write(descriptor, data) == len(data):
                return
