"""File calls that fail once: the error is one that a user can read, and nothing is lost, doubled or half done by it."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.table import load_agg
from epochcast.collect.records.recovery import recover
from epochcast.planner.execution import ledger
from epochcast.schema import to_json_dict
from epochcast.storage.files import json_bytes, write_json_atomically, write_new_file
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import read_table
from tests.chaos import averages, full_disks, injection, migrations, trainings, writers
from tests.chaos.injection import ERRORS, FAIL, HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import Found, average_faults, error_faults, leftover_faults, table_faults
from tests.chaos.material import MAKERS, row_of
from tests.chaos.processes import Ending, call
from tests.chaos.trials import Subject, Trial

OLD, NEW = {"value": "old" * 50}, {"value": "new" * 50}
NEW_BYTES = b"new" * 1000


@dataclass(frozen=True, slots=True)
class Operation:
    """`work` is done on what `prepare` made, with a failing call; `check` then says what is wrong, given the ending.

    `work` is done a second time, without, before `check_done`.
    """

    prepare: Callable[[Path], object]
    work: Callable[[Path], object]
    check: Callable[[Path, Ending], Found] = lambda folder, ending: []
    check_done: Callable[[Path], Found] = lambda folder: []
    repeats: Callable[[Path], object] | None = None  # where the second time differs from the first


# --- rows ------------------------------------------------------------------------------------------------------------


def _append(table: Path) -> None:
    row = MAKERS[table.name]("new", 0)
    check_appendable(table, type(row))
    append_row(table, row)


def _has_new(table: Path) -> bool:
    if not table.exists() or b"\n" not in table.read_bytes():  # no whole header yet, so no row
        return False
    kind = type(MAKERS[table.name]("new", 0))
    return any(row.run_id == "new-0" for row in call(lambda: read_table(table, kind)).returned())


def _append_if_missing(table: Path) -> None:
    """What somebody does who was told that a row was not appended."""
    if not _has_new(table):
        _append(table)


def _check_append(table: Path, ending: Ending) -> Found:
    has_new = _has_new(table)
    if ending.error is None and not has_new:
        return [("lost", "an append says that it succeeded, and there is no row")]
    if ending.error is not None and has_new:
        return [("other", "an append says that it failed, and the row stands in the table")]
    return []


def _appends(before: str, name: str = "runs.csv") -> Operation:
    promised = [*(["old-0", "old-1", "old-2"] if before in ("rows", "torn row") else []), "new-0"]
    written = writers.written(["old", "new", "cut"], 10, MAKERS[name])
    return Operation(
        prepare=lambda folder: writers.stand_before(before, folder / name),
        work=lambda folder: _append(folder / name),
        check=lambda folder, ending: _check_append(folder / name, ending),
        repeats=lambda folder: _append_if_missing(folder / name),
        check_done=lambda folder: table_faults(folder / name, promised, written, MAKERS[name]),
    )


# --- whole files -----------------------------------------------------------------------------------------------------


def _file_faults(folder: Path, *allowed: bytes) -> Found:
    path = folder / "file.json"
    if path.exists() and path.read_bytes() not in allowed:
        return [("torn", f"a file is neither the old one nor the new one | {path.stat().st_size} bytes")]
    return []


def _write_new_once(folder: Path) -> None:
    path = folder / "file.json"
    if not path.exists():
        write_new_file(path, NEW_BYTES)


REPLACING = Operation(
    prepare=lambda folder: call(lambda: write_json_atomically(folder / "file.json", OLD)).returned(),
    work=lambda folder: write_json_atomically(folder / "file.json", NEW),
    check=lambda folder, ending: _file_faults(
        folder, *([json_bytes(NEW)] if ending.error is None else map(json_bytes, (OLD, NEW)))
    ),
    check_done=lambda folder: _file_faults(folder, json_bytes(NEW)),
)
MAKING = Operation(
    prepare=lambda folder: folder.mkdir(parents=True, exist_ok=True),
    work=lambda folder: write_new_file(folder / "more" / "file.json", NEW_BYTES),
    check=lambda folder, ending: _file_faults(folder / "more", NEW_BYTES),
    repeats=lambda folder: _write_new_once(folder / "more"),
    check_done=lambda folder: _file_faults(folder / "more", NEW_BYTES),
)

# --- averages, migrations, ledgers, trainings -------------------------------------------------------------------------


def _averages(is_old: bool, work: Callable[[Path], object]) -> Operation:
    return Operation(
        prepare=lambda folder: averages.prepare(folder, is_old),
        work=work,
        check_done=lambda folder: average_faults(folder / "runs_agg.csv", folder / "runs.csv"),
    )


def _lift(lift: migrations.Lift) -> Operation:
    return Operation(
        prepare=lambda folder: migrations.prepare(folder, lift),
        work=lift.work,
        check=lambda folder, ending: migrations.source_faults(folder, lift),
        repeats=lambda folder: migrations.done_again(folder, lift),
        check_done=lambda folder: migrations.result_faults(folder, lift),
    )


def _keep_account(folder: Path) -> None:
    with ledger.opened(folder / "hour.ledger.jsonl", "plan-1") as account:
        account.charge(5.0)
        account.write("run_started", run_id="a")
        account.write("run_ended", run_id="a", status="done")


def _ledger_faults(folder: Path) -> Found:
    path = folder / "hour.ledger.jsonl"
    looked_at = call(lambda: ledger.looked_at(path, "plan-1").lines)
    if looked_at.error is not None:
        return [("torn", f"the ledger can't be read | {looked_at.error}")]
    used = [line["used_sec"] for line in looked_at.value]
    return [("wrong", f"the time used of a budget shrinks | {used}")] if used != sorted(used) else []


LEDGER = Operation(
    prepare=lambda folder: call(lambda: _keep_account(folder)).returned(),
    work=_keep_account,
    check=lambda folder, ending: _ledger_faults(folder),
    check_done=_ledger_faults,
)


def _keep_rows(folder: Path) -> None:
    """Two finished runs whose rows are kept beside their logs, one of which is in the table already."""
    (folder / "logs").mkdir(parents=True)
    append_row(folder / "runs.csv", row_of("kept", 0))
    for number in range(3):
        kept = {"table": str(folder / "runs.csv"), "row": to_json_dict(row_of("kept", number))}
        write_json_atomically(folder / "logs" / f"kept-{number}.json", kept)


RECOVERING = Operation(
    prepare=lambda folder: call(lambda: _keep_rows(folder)).returned(),
    work=lambda folder: recover(folder / "runs.csv", folder / "logs"),
    check_done=lambda folder: table_faults(
        folder / "runs.csv", [f"kept-{number}" for number in range(3)], writers.written(["kept"], 3)
    ),
)
TRAINING = Operation(
    prepare=lambda folder: trainings.trained(folder / "m.keras", "old"),
    work=lambda folder: trainings.train_as("new", folder / "m.keras"),
    check=lambda folder, ending: trainings.model_faults(
        folder / "m.keras", [trainings.answers_of(folder.parent)[name] for name in ("old", "new")], ending.error is None
    ),
    check_done=lambda folder: trainings.model_faults(
        folder / "m.keras", [trainings.answers_of(folder.parent)["new"]], must_answer=True
    ),
)

OPERATIONS = {
    **{f"append ({before})": _appends(before) for before in writers.BEFORE},
    "append a fit (torn row)": _appends("torn row", "fits.csv"),
    "replace a file": REPLACING,
    "make a file": MAKING,
    "aggregate": _averages(False, lambda folder: write_agg(folder / "runs.csv", folder / "runs_agg.csv")),
    "aggregate anew": _averages(True, lambda folder: load_agg(folder / "runs_agg.csv")),
    **{lift.name: _lift(lift) for lift in migrations.LIFTS},
    "ledger": LEDGER,
    "recover": RECOVERING,
    "train": TRAINING,
}
KILLED = ("replace a file", "make a file", "ledger", "recover")  # the others are killed where they are tried by chance
CALLS = injection.CALLS  # reading, too


@functools.cache
def _cases(base: Path) -> tuple[tuple[str, int, Call, int], ...]:
    cases = []
    for name, operation in OPERATIONS.items():
        folder = base / f"counted {name}"
        folder.mkdir(parents=True)
        operation.prepare(folder)
        ending = call(lambda operation=operation, folder=folder: operation.work(folder), Injection(folder, calls=CALLS))
        ending.returned()
        cases += [(name, n, called, e) for n, called in enumerate(ending.calls, start=1) for e in ERRORS[called.name]]
    return tuple(cases)


def _failing_once(trial: Trial) -> None:
    name, n, called, error = _cases(trial.folder.parent)[trial.number]
    operation = OPERATIONS[name]
    when = f"{name}, call {n} ({called}) fails with {errno.errorcode[error]}"
    operation.prepare(trial.folder)
    ending = call(lambda: operation.work(trial.folder), Injection(trial.folder, n, FAIL, error, calls=CALLS))
    trial.faults(error_faults(ending, trial.folder), when)
    _judge(trial, operation, ending, when)


@functools.cache
def _kill_cases(base: Path) -> tuple[tuple[str, int, Call], ...]:
    cases = []
    for name in KILLED:
        folder = base / f"counted {name}"
        folder.mkdir(parents=True)
        OPERATIONS[name].prepare(folder)
        ending = call(functools.partial(OPERATIONS[name].work, folder), Injection(folder))
        cases += [(name, n, called) for n, called in enumerate(ending.calls, start=1)]
    return tuple(cases)


def _killed_at_call(trial: Trial) -> None:
    name, n, called = _kill_cases(trial.folder.parent)[trial.number]
    operation = OPERATIONS[name]
    operation.prepare(trial.folder)
    kept = trial.rng.choice((HALF, NOTHING))
    ending = call(lambda: operation.work(trial.folder), Injection(trial.folder, n, KILL, kept=kept))
    trial.killed(ending.was_killed)
    _judge(
        trial, operation, replace(ending, error=ending.error or InterruptedError()), f"{name} killed at {called} {n}"
    )


def _judge(trial: Trial, operation: Operation, ending: Ending, when: str) -> None:
    """After whatever happened to it, and after the same once more."""
    trial.faults(operation.check(trial.folder, ending), when)
    again = call(lambda: (operation.repeats or operation.work)(trial.folder))
    if again.error is not None:
        trial.fault("other", f"the same once more fails | {again.error}; {when}")
        return
    trial.promise(1)
    trial.faults(operation.check_done(trial.folder), when)
    trial.faults(leftover_faults(trial.folder), when)


# --- whole runs ------------------------------------------------------------------------------------------------------


@functools.cache
def _run_cases(base: Path) -> tuple[tuple[int, Call, int], ...]:
    """Number, name and error of each call of a run; the errors take turns, as a run takes a tenth of a second."""
    home = full_disks.prepare(base / "counted", "run")
    calls = call(full_disks.work("run", home), Injection(home.folder)).calls
    of = [ERRORS[called.name] for called in calls]
    return tuple((n, called, of[n - 1][n % len(of[n - 1])]) for n, called in enumerate(calls, start=1))


def _failing_run(trial: Trial) -> None:
    n, called, error = _run_cases(trial.folder.parent)[trial.number]
    home = full_disks.prepare(trial.folder, "run")
    ending = call(full_disks.work("run", home), Injection(home.folder, n, FAIL, error))
    full_disks.check(trial, "run", home, ending, f"call {n} ({called}) fails with {errno.errorcode[error]}")


SUBJECTS = [
    Subject(
        "files_calls",
        lambda base: len(_kill_cases(base)),
        _killed_at_call,
        is_exhaustive=True,
        missing=injection.missing,
    ),
    Subject(
        "failing_calls", lambda base: len(_cases(base)), _failing_once, is_exhaustive=True, missing=injection.missing
    ),
    Subject(
        "failing_runs", lambda base: len(_run_cases(base)), _failing_run, is_exhaustive=True, missing=injection.missing
    ),
]
