"""Processes that append to one table and are killed -9, at random moments and at every file call."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from epochcast.storage.cells import format_rows
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import write_table
from tests.chaos import injection
from tests.chaos.injection import HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import Row, table_faults
from tests.chaos.material import MAKERS, row_of
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial

KILLS = 160  # of the 400 at full length
WRITERS = 4  # killed one after the other, in one try
LONGEST_SEC = 0.12  # between two kills: some twenty appends
CUTS = (HALF, NOTHING, 1, 1_000_000)  # bytes of the write that a kill stops; the last: all but one


def _append_for_ever(path: Path, name: str, promises: int) -> None:
    make = MAKERS[path.name]
    check_appendable(path, type(make(name, 0)))
    for number in range(10_000):
        append_row(path, make(name, number))
        os.write(promises, f"{name}-{number}\n".encode())  # only now is the row promised


def written(names: list[str], n: int, make: Callable[[str, int], Row] = row_of) -> dict[str, Row]:
    return {f"{name}-{number}": make(name, number) for name in names for number in range(n)}


def _at_random_moments(trial: Trial) -> None:
    table = trial.folder / list(MAKERS)[trial.number % len(MAKERS)]
    make = MAKERS[table.name]
    names = [f"w{i}" for i in range(WRITERS)]
    if trial.rng.random() < 0.5:  # else the writers race to make the table
        call(lambda: write_table(table, [], type(make("", 0)))).returned()
    with tempfile.TemporaryFile() as promises:
        fd = os.open(f"/proc/self/fd/{promises.fileno()}", os.O_RDWR | os.O_APPEND)
        writers = [Process(functools.partial(_append_for_ever, table, name, fd)) for name in names]
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
    trial.faults(table_faults(table, promised, written(names, last + 2, make), make))


# --- at every call ---------------------------------------------------------------------------------------------------


def stand_before(kind: str, table: Path) -> list[Row]:
    """The table that an append meets: none, a whole one, one whose last line was torn, or its header."""
    make = MAKERS[table.name]
    rows = [make("old", number) for number in range(3)]
    if kind == "none":
        return []
    call(lambda: write_table(table, rows, type(rows[0]))).returned()
    if kind == "torn row":
        with table.open("ab") as file:
            file.write(format_rows([make("cut", 9)]).encode()[:-3])
    if kind == "torn header":
        table.write_bytes(table.read_bytes()[:50])
        return []
    return rows


BEFORE = ("none", "rows", "torn row", "torn header")


@functools.cache
def _cases(base: Path) -> tuple[tuple[str, str, int, Call, int], ...]:
    """The table, what stood there before, number and name of the call, and how much of a write is done."""
    cases = []
    for name, kind in itertools.product(MAKERS, BEFORE):
        folder = base / name / kind
        folder.mkdir(parents=True)
        stand_before(kind, folder / name)
        calls = call(_two_appends(folder / name), Injection(folder)).calls
        for n, called in enumerate(calls, start=1):
            cases += [(name, kind, n, called, cut) for cut in (CUTS if called.name == "write" else (NOTHING,))]
    return tuple(cases)


def _two_appends(table: Path, promises: int | None = None) -> Callable[[], None]:
    def append() -> None:
        for number in (0, 1):
            append_row(table, MAKERS[table.name]("new", number))
            if promises is not None:
                os.write(promises, f"new-{number}\n".encode())

    return append


def _at_every_call(trial: Trial) -> None:
    name, kind, n, called, cut = _cases(trial.folder.parent)[trial.number]
    table, make = trial.folder / name, MAKERS[name]
    rows = stand_before(kind, table)
    with tempfile.TemporaryFile() as promises:
        fd = promises.fileno()
        ending = call(_two_appends(table, fd), Injection(trial.folder, n, KILL, kept=cut))
        promises.seek(0)
        promised = [str(row.run_id) for row in rows] + promises.read().decode().split()
    trial.killed(ending.was_killed)
    trial.promise(len(promised))
    found = table_faults(table, promised, written(["old", "new", "cut"], 10, make), make)
    trial.faults(found, f"{name} killed at call {n} ({called}, {cut}), before: {kind}")


SUBJECTS = [
    Subject("writers", lambda _: KILLS // WRITERS, _at_random_moments),
    Subject(
        "writers_calls", lambda base: len(_cases(base)), _at_every_call, is_exhaustive=True, missing=injection.missing
    ),
]
