"""Processes that append to one table and are killed -9, at random moments and at every file call."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from epochcast.schema import RunRecord
from epochcast.storage.cells import format_rows
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import write_table
from tests.chaos import injection
from tests.chaos.injection import HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import table_faults
from tests.chaos.material import row_of
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial

KILLS = 160  # of the 400 at full length
WRITERS = 4  # killed one after the other, in one try
LONGEST_SEC = 0.12  # between two kills: some twenty appends
CUTS = (HALF, NOTHING, 1, 1_000_000)  # bytes of the write that a kill stops; the last: all but one


def _append_for_ever(path: Path, name: str, promises: int) -> None:
    check_appendable(path, RunRecord)
    for number in range(10_000):
        append_row(path, row_of(name, number))
        os.write(promises, f"{name}-{number}\n".encode())  # only now is the row promised


def written(names: list[str], n: int) -> dict[str, RunRecord]:
    return {f"{name}-{number}": row_of(name, number) for name in names for number in range(n)}


def _at_random_moments(trial: Trial) -> None:
    runs = trial.folder / "runs.csv"
    names = [f"w{i}" for i in range(WRITERS)]
    if trial.rng.random() < 0.5:  # else the writers race to make the table
        call(lambda: write_table(runs, [], RunRecord)).returned()
    with tempfile.TemporaryFile() as promises:
        fd = os.open(f"/proc/self/fd/{promises.fileno()}", os.O_RDWR | os.O_APPEND)
        writers = [Process(functools.partial(_append_for_ever, runs, name, fd)) for name in names]
        trial.rng.shuffle(writers)
        for writer in writers:
            time.sleep(trial.rng.uniform(0, LONGEST_SEC))
            trial.killed(writer.kill())
            if (ending := writer.wait()).error is not None:
                trial.fault("other", f"a writer failed | {ending.error}")
        os.close(fd)
        promises.seek(0)
        promised = promises.read().decode().split()
    trial.promise(len(promised))
    last = max((int(run_id.partition("-")[2]) for run_id in promised), default=-1)
    trial.faults(table_faults(runs, promised, written(names, last + 2)))


# --- at every call ---------------------------------------------------------------------------------------------------


def stand_before(kind: str, runs: Path) -> list[RunRecord]:
    """The table that an append meets: none, a whole one, one whose last line was torn, or its header."""
    rows = [row_of("old", number) for number in range(3)]
    if kind == "none":
        return []
    call(lambda: write_table(runs, rows, RunRecord)).returned()
    if kind == "torn row":
        with runs.open("ab") as file:
            file.write(format_rows([row_of("cut", 9)]).encode()[:-3])
    if kind == "torn header":
        runs.write_bytes(runs.read_bytes()[:50])
        return []
    return rows


BEFORE = ("none", "rows", "torn row", "torn header")


@functools.cache
def _cases(base: Path) -> tuple[tuple[str, int, Call, int], ...]:
    """What stood there before, number and name of the call, and how much of a write is done."""
    cases = []
    for kind in BEFORE:
        folder = base / kind
        folder.mkdir(parents=True)
        stand_before(kind, folder / "runs.csv")
        calls = call(_two_appends(folder / "runs.csv"), Injection(folder)).calls
        for n, called in enumerate(calls, start=1):
            cases += [(kind, n, called, cut) for cut in (CUTS if called.name == "write" else (NOTHING,))]
    return tuple(cases)


def _two_appends(runs: Path, promises: int | None = None) -> Callable[[], None]:
    def append() -> None:
        for number in (0, 1):
            append_row(runs, row_of("new", number))
            if promises is not None:
                os.write(promises, f"new-{number}\n".encode())

    return append


def _at_every_call(trial: Trial) -> None:
    kind, n, called, cut = _cases(trial.folder.parent)[trial.number]
    runs = trial.folder / "runs.csv"
    rows = stand_before(kind, runs)
    with tempfile.TemporaryFile() as promises:
        fd = promises.fileno()
        ending = call(_two_appends(runs, fd), Injection(trial.folder, n, KILL, kept=cut))
        promises.seek(0)
        promised = [str(row.run_id) for row in rows] + promises.read().decode().split()
    trial.killed(ending.was_killed)
    trial.promise(len(promised))
    found = table_faults(runs, promised, written(["old", "new", "cut"], 10))
    trial.faults(found, f"killed at call {n} ({called}, {cut}), before: {kind}")


SUBJECTS = [
    Subject("writers", lambda _: KILLS // WRITERS, _at_random_moments),
    Subject(
        "writers_calls", lambda base: len(_cases(base)), _at_every_call, is_exhaustive=True, missing=injection.missing
    ),
]
