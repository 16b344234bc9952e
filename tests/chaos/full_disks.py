"""Disks that are full from the n-th write of a run on: what was measured comes back once there is space again."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from epochcast.collect import recover, run_grid, run_one
from epochcast.collect.grid.specs import PlannedRun
from epochcast.paths import failures_csv
from epochcast.planner import run_plan
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.cells import format_rows
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table
from tests.chaos import injection
from tests.chaos.grids import run_faults
from tests.chaos.injection import FULL, HALF, NOTHING, Injection
from tests.chaos.invariants import leftover_faults
from tests.chaos.material import row_of
from tests.chaos.processes import Ending, Process, call
from tests.chaos.trials import Subject, Trial
from tests.support import plans
from tests.support.light_child import command, light_spec, starts

SMALL = ["--depth", "1", "--base_filters", "2", "--train_n", "1000", "--dataset", "synthetic", "--epochs", "4"]
PLACES = {"everything": "", "tables": "results", "logs": "logs"}  # what stands on the disk that gets full
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OLD_SIZE, N_OLD = 1024, 3  # batch size and number of the rows that are there before
PAGE = 4096  # bytes that a disk gives at a time


@dataclass(frozen=True, slots=True)
class Home:
    """Where one try measures."""

    folder: Path
    trace: Path  # of the light children, on a disk that never gets full

    @property
    def runs(self) -> Path:
        return self.folder / "results" / "runs.csv"

    @property
    def log_dir(self) -> Path:
        return self.folder / "logs"

    @property
    def plan(self) -> Path:
        return self.folder / "plans" / "hour.json"

    @property
    def flags(self) -> list[str]:
        return ["--runs", str(self.runs), "--log_dir", str(self.log_dir)]


def _run(home: Home, child: tuple[str, ...]) -> int:
    with mock.patch("epochcast.collect.run.child.CHILD", child):
        return run_one.main([*SMALL, "--batch_size", "16", "--run_id", "by-hand", *home.flags])


def _grid(home: Home, child: tuple[str, ...]) -> int:
    with mock.patch("epochcast.collect.run.child.CHILD", child):
        return run_grid.main([*SMALL, "--batch_size", "16,32", "--keep_flagged", *home.flags])


def _plan(home: Home, child: tuple[str, ...]) -> int:
    with mock.patch("epochcast.collect.run.child.CHILD", child):
        return run_plan.main([str(home.plan), *home.flags])


COMMANDS: dict[str, Callable[[Home, tuple[str, ...]], int]] = {"run": _run, "grid": _grid, "run_plan": _plan}


def work(name: str, home: Home, *behaviour: str) -> Callable[[], int]:
    def begin() -> int:
        os.environ |= {"LIGHT_CHILD_TRACE": str(home.trace), "EPOCHCAST_HOME": str(home.folder)}
        return COMMANDS[name](home, command(*behaviour or ("ok",)))

    return begin


def prepare(folder: Path, name: str) -> Home:
    home = Home(folder / "home", folder / "trace")
    for path in (home.runs.parent, home.log_dir, home.plan.parent):
        path.mkdir(parents=True, exist_ok=True)
    call(lambda: _fill_page(home.runs)).returned()
    if name == "run_plan":
        chosen = [plans.light_run(size, 1.0, 16 / size, epochs=4) for size in (16, 32)]
        call(lambda: plans.write_plan(home.plan, chosen, value="acc", budget_sec=600.0)).returned()
    return home


def _fill_page(runs: Path) -> None:
    """Older rows that end just before a page does: the next one needs a new page of a real disk."""
    for number in range(N_OLD - 1):
        append_row(runs, _older_row(number))
    missing = -(runs.stat().st_size + len(format_rows([_older_row(2)]))) % PAGE - 20
    append_row(runs, replace(_older_row(2), tf_version="x" * missing if missing > 0 else None))


def _older_row(number: int) -> RunRecord:
    return row_of("old", number, (1, 2, OLD_SIZE))


# --- what must hold --------------------------------------------------------------------------------------------------


def _sizes(path: Path, kind: type) -> list[int]:
    is_begun = path.exists() and path.stat().st_size > 0  # else not even the header could be written
    return [row.batch_size for row in read_table(path, kind) if row.batch_size != OLD_SIZE] if is_begun else []


def _recover(home: Home, *more: str) -> Ending:
    return call(lambda: recover.main([*home.flags, *more]))


def check(trial: Trial, name: str, home: Home, ending: Ending, when: str) -> None:
    """There is space again: what was begun is in a table, or comes back into it by `recover`, once."""
    if "Traceback" in ending.output or ending.error is not None:
        trial.fault("other", f"{name}: a traceback | {ending.error!r}; {when}: {ending.output[-300:]!r}")
    begun = {start["batch_size"] for start in starts(home.trace)}
    failures = failures_csv(home.runs)
    try:
        there = {*_sizes(home.runs, RunRecord), *_sizes(failures, FailureRecord)}
    except ValueError as error:
        trial.fault("torn", f"{name}: a table can't be read | {error}; {when}")
        return
    if ending.value == 0 and not begun <= there:
        trial.fault("other", f"{name}: exit code 0, but a run is in no table | {begun - there}; {when}")
    if not begun <= there:
        recovered = _recover(home)
        there |= {*_sizes(home.runs, RunRecord), *_sizes(failures, FailureRecord)}
        is_printed = "LOGGED: " in ending.output or "FAILED: " in ending.output
        if not begun <= there and is_printed:  # the last copy may be what the command printed
            captured = trial.folder / "captured.txt"
            captured.write_text(ending.output)
            recovered = _recover(home, "--log", str(captured))
            there |= {*_sizes(home.runs, RunRecord), *_sizes(failures, FailureRecord)}
        if lost := begun - there:
            copies = "the line that was printed brings nothing back" if is_printed else "no copy was printed"
            text = f"{name}: what was measured does not come back; {copies}"
            trial.fault("lost", f"{text} | {lost}; {when}: {recovered.output[-200:]!r}")
    begun_again = call(work(name, home))
    if begun_again.value != 0 and name != "run":
        trial.fault("other", f"{name}: begun again, it fails | {begun_again.output[-300:]!r}; {when}")
    rows = read_table(home.runs, RunRecord)
    if len(rows) < N_OLD or [row.run_id for row in rows[:N_OLD]] != [f"old-{i}" for i in range(N_OLD)]:
        trial.fault("lost", f"{name}: older rows are gone | {len(rows)} rows; {when}")
    older = {str(row.run_id): row for row in rows if row.batch_size == OLD_SIZE}
    wanted = {row.run_id: row.batch_size for row in rows if row.run_id not in older}
    if name != "run" and len(wanted) != 2 and begun_again.value == 0:
        trial.fault("lost", f"{name}: begun again, it does not measure all | {wanted}; {when}")
    done = [PlannedRun(light_spec(batch_size=size), str(run_id)) for run_id, size in wanted.items()]
    run_faults(trial, home.runs, done, older)
    trial.faults(leftover_faults(home.folder), f"{name}, {when}")


# --- injected --------------------------------------------------------------------------------------------------------


@functools.cache
def _cases(base: Path) -> tuple[tuple[str, str, int], ...]:
    """Command, what stands on the full disk, and the write from which on it is full."""
    cases = []
    for name in COMMANDS:
        home = prepare(base / f"counted {name}", name)
        calls = call(work(name, home), Injection(home.folder, calls=("write",))).calls
        for place, below in PLACES.items():
            n = sum(called.path.startswith(below) for called in calls)
            cases += [(name, place, number) for number in range(1, n + 1)]
    return tuple(cases)


def _injected(trial: Trial) -> None:
    name, place, n = _cases(trial.folder.parent)[trial.number]
    home = prepare(trial.folder, name)
    error, kept = trial.rng.choice(FULL_ERRORS), trial.rng.choice((HALF, NOTHING))
    disk = Injection(home.folder / PLACES[place], n, FULL, error, kept, ("write",))
    ending = call(work(name, home), disk)
    check(trial, name, home, ending, f"{place} full from write {n} on, {errno.errorcode[error]}")


# --- a real one ------------------------------------------------------------------------------------------------------


@functools.cache
def _no_tmpfs() -> str:
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True
        )
        if mount.returncode != 0:
            return f"a small tmpfs can't be mounted here (it needs root): {mount.stderr.strip()[:100]}"
        subprocess.run(["umount", folder], check=True)
    return ""


def _fill(folder: Path, pages_left: int) -> Path:
    """Fill the disk but for some pages."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - 4096 * pages_left))
    return filler


def _on_tmpfs(trial: Trial) -> None:
    """The disk is filled while the first run is measured, but for a page or a few."""
    name = sorted(COMMANDS)[trial.number % len(COMMANDS)]
    place = ("", "results", "logs")[trial.number // len(COMMANDS) % 3]
    disk = trial.folder / "home" / place
    home = Home(trial.folder / "home", trial.folder / "trace")
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    try:
        prepare(trial.folder, name)
        process = Process(work(name, home, "lasting", "0.3"))
        while not starts(home.trace) and not process.has_ended():
            time.sleep(0.005)
        pages = trial.rng.randrange(6)
        filler = _fill(disk, pages)
        ending = process.wait()
        filler.unlink()
        check(trial, name, home, ending, f"tmpfs for {place or 'everything'} filled but for {pages} pages")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


SUBJECTS = [
    Subject("full_disks", lambda base: len(_cases(base)), _injected, is_exhaustive=True, missing=injection.missing),
    Subject("full_tmpfs", lambda _: 27, _on_tmpfs, is_exhaustive=True, missing=_no_tmpfs),
]
