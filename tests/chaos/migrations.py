"""Tables that are lifted or merged: killed at random moments and at every call, the same command completes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.aggregate.merging.tables import merge
from epochcast.aggregate.migrate import migrate
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import Exclusion, FailureRecord, RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table, write_table
from tests.chaos import injection
from tests.chaos.injection import HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import leftover_faults, row_faults
from tests.chaos.material import failure_of, row_of
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial
from tests.support.rows import write_old

KILLS = 90  # a third of which come when all is done
ROWS = 40


@dataclass(frozen=True, slots=True)
class Lift:
    """One command over old tables: where it reads and writes, and what must be there afterwards."""

    name: str
    work: Callable[[Path], object]  # with the folder of the try
    out: str  # of the table below that folder
    tables: tuple[str, ...]  # that it reads


def _folder_of(folder: Path, table: str) -> Path:
    return folder / table / "runs.csv"


LIFTS = [
    Lift("migrate", lambda folder: migrate(_folder_of(folder, "a")), "a", ("a",)),
    Lift("migrate --out", lambda folder: migrate(_folder_of(folder, "a"), _folder_of(folder, "out")), "out", ("a",)),
    Lift(
        "merge",
        lambda folder: merge([_folder_of(folder, "a"), _folder_of(folder, "b")], _folder_of(folder, "out")),
        "out",
        ("a", "b"),
    ),
]


def _rows(table: str) -> list[RunRecord]:
    return [row_of(table, number) for number in range(ROWS)]


def prepare(folder: Path, lift: Lift) -> None:
    call(lambda: _write_tables(folder, lift)).returned()


def _write_tables(folder: Path, lift: Lift) -> None:
    for table in lift.tables:
        runs = _folder_of(folder, table)
        write_old(runs, _rows(table))
        write_table(failures_csv(runs), [failure_of(table, 100 + number) for number in range(3)], FailureRecord)
        write_table(excluded_csv(runs), [Exclusion(f"{table}-1", "a try", "2026-01-01")], Exclusion)


def _expected(lift: Lift) -> dict[str, RunRecord]:
    """The rows that are to be there: as schema 1 held them, what it did not record unknown."""
    rows = [row for table in lift.tables for row in _rows(table)]
    return {str(row.run_id): replace(row, git_commit=None, device_memory_bytes=None) for row in rows}


def source_faults(folder: Path, lift: Lift) -> list[tuple[str, str]]:
    """After a kill every table that was read is whole, in its old form or its new one."""
    found = []
    expected = _expected(lift)
    for table in lift.tables:
        path = _folder_of(folder, table)
        rows = call(lambda path=path: read_table(path, RunRecord))
        if rows.error is not None or len(rows.value) != ROWS:
            found.append(("lost", f"a table is not whole after a kill | {rows.error or len(rows.value)}"))
        else:
            found += row_faults(rows.value, [], expected)
    return found


def result_faults(folder: Path, lift: Lift) -> list[tuple[str, str]]:
    out = _folder_of(folder, lift.out)
    rows = call(lambda: read_table(out, RunRecord))
    if rows.error is not None:
        return [("torn", f"the new table can't be read | {rows.error}")]
    expected = _expected(lift)
    found = row_faults(rows.value, expected, expected)
    for path, kind, n in ((failures_csv(out), FailureRecord, 3), (excluded_csv(out), Exclusion, 1)):
        beside = call(lambda path=path, kind=kind: read_table(path, kind))
        if beside.error is not None or len(beside.value) != n * len(lift.tables):
            found.append(("lost", f"what stands beside the table is not kept | {path.name}: {beside.error}"))
    if lift.out == "a":
        copies = sorted(out.parent.glob("runs.csv.schema*"))
        if len(copies) != 1 or len(read_table(copies[0], RunRecord)) != ROWS:
            found.append(("other", f"the old table is not kept once | {[path.name for path in copies]}"))
    return found


def done_again(folder: Path, lift: Lift) -> None:
    """The same command once more; that its result exists is no error where it is whole."""
    try:
        lift.work(folder)
    except FileExistsError:
        if result_faults(folder, lift):
            raise


def _check(trial: Trial, lift: Lift, when: str) -> None:
    trial.promise(len(_expected(lift)))
    trial.faults(source_faults(trial.folder, lift), when)
    again = call(lambda: done_again(trial.folder, lift))
    if again.error is not None:
        trial.fault("other", f"{lift.name}: the same command does not complete after a kill | {again.error}; {when}")
        return
    trial.faults(result_faults(trial.folder, lift), when)
    out = _folder_of(trial.folder, lift.out)
    appended = call(lambda: append_row(out, row_of("later", 1)))
    if appended.error is not None:
        trial.fault("other", f"the new table takes no row | {appended.error}")
    trial.faults(leftover_faults(trial.folder), f"{lift.name}, {when}")


@functools.cache
def _work_sec(base: Path, lift: Lift) -> float:
    folder = base / f"measured {lift.name}"
    prepare(folder, lift)
    start = time.monotonic()
    call(lambda: lift.work(folder)).returned()
    return time.monotonic() - start


def _killed(trial: Trial) -> None:
    lift = LIFTS[trial.number % len(LIFTS)]
    prepare(trial.folder, lift)
    work_sec = _work_sec(trial.folder.parent, lift)
    process = Process(lambda: lift.work(trial.folder))
    time.sleep(trial.rng.uniform(0, work_sec))
    trial.killed(process.kill())
    process.wait()
    _check(trial, lift, "killed at a random moment")


@functools.cache
def _cases(base: Path) -> tuple[tuple[Lift, int, Call, int], ...]:
    cases = []
    for lift in LIFTS:
        folder = base / f"counted {lift.name}"
        prepare(folder, lift)
        calls = call(lambda lift=lift, folder=folder: lift.work(folder), Injection(folder)).calls
        for n, called in enumerate(calls, start=1):
            cases += [(lift, n, called, cut) for cut in ((HALF, NOTHING) if called.name == "write" else (NOTHING,))]
    return tuple(cases)


def _at_every_call(trial: Trial) -> None:
    lift, n, called, cut = _cases(trial.folder.parent)[trial.number]
    prepare(trial.folder, lift)
    trial.killed(call(lambda: lift.work(trial.folder), Injection(trial.folder, n, KILL, kept=cut)).was_killed)
    _check(trial, lift, f"killed at call {n} ({called})")


SUBJECTS = [
    Subject("migrations", lambda _: KILLS, _killed),
    Subject(
        "migrations_calls",
        lambda base: len(_cases(base)),
        _at_every_call,
        is_exhaustive=True,
        missing=injection.missing,
    ),
]
