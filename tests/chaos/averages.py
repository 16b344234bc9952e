"""Averages that are made, and made anew by readers, while rows are appended: killed, several at once, at every call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.table import load_agg
from epochcast.schema import RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import write_table
from tests.chaos import injection
from tests.chaos.injection import HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import average_faults, leftover_faults
from tests.chaos.material import row_of
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial

KILLS = 100
ROWS = 12
AT_ONCE = 3
Maker = Callable[[], object]


def prepare(folder: Path, is_old: bool) -> tuple[Path, Path]:
    """Runs, and their averages: with `is_old` of all rows but the last."""
    runs, agg = folder / "runs.csv", folder / "runs_agg.csv"

    def write() -> None:
        write_table(runs, [row_of("r", number) for number in range(ROWS)], RunRecord)
        if is_old:
            write_agg(runs, agg)
            append_row(runs, row_of("r", ROWS))

    call(write).returned()
    return runs, agg


def _aggregate_command(runs: Path, agg: Path) -> Maker:
    return lambda: write_agg(runs, agg)


def _reader(runs: Path, agg: Path) -> Maker:
    return lambda: load_agg(agg)


MAKERS = {"aggregate": _aggregate_command, "a reader": _reader}


@functools.cache
def _making_sec(base: Path) -> float:
    base.mkdir(parents=True, exist_ok=True)
    runs, agg = prepare(base / "measured", is_old=True)
    start = time.monotonic()
    call(_reader(runs, agg)).returned()
    return time.monotonic() - start


def _check(trial: Trial, runs: Path, agg: Path, when: str) -> None:
    trial.faults(average_faults(agg, runs), when)
    trial.faults(leftover_faults(trial.folder), when)


def _killed(trial: Trial) -> None:
    """One maker, or three at once, killed; a row is appended before or meanwhile."""
    runs, agg = prepare(trial.folder, is_old=trial.rng.random() < 0.7)
    name = trial.rng.choice(sorted(MAKERS))
    n = AT_ONCE if trial.number % 2 else 1
    making_sec = _making_sec(trial.folder.parent)
    makers = [Process(MAKERS[name](runs, agg)) for _ in range(n)]
    if is_meanwhile := trial.rng.random() < 0.5:
        append_row(runs, row_of("late", trial.number))
    for maker in makers:
        time.sleep(trial.rng.uniform(0, making_sec / n))
        trial.killed(maker.kill())
    for maker in makers:
        maker.wait()
    if not is_meanwhile:
        append_row(runs, row_of("late", trial.number))
    trial.promise(1)
    _check(trial, runs, agg, f"{n} of {name} killed")


def _several_at_once(trial: Trial) -> None:
    """Three readers and commands at once, each begun a little later, while rows are appended; nobody is killed."""
    runs, agg = prepare(trial.folder, is_old=trial.rng.random() < 0.7)
    pause_sec = trial.rng.uniform(0, _making_sec(trial.folder.parent))
    makers = []
    for number in range(AT_ONCE):
        makers.append(Process(MAKERS[trial.rng.choice(sorted(MAKERS))](runs, agg)))
        time.sleep(pause_sec / AT_ONCE)
        append_row(runs, row_of("late", number))
    for maker in makers:
        if (ending := maker.wait()).error is not None:
            trial.fault("other", f"one of several at once fails | {ending.error}")
    trial.promise(AT_ONCE)
    _check(trial, runs, agg, f"{AT_ONCE} at once")


# --- at every call ---------------------------------------------------------------------------------------------------


@functools.cache
def _cases(base: Path) -> tuple[tuple[str, bool, int, Call, int], ...]:
    cases = []
    for name, maker in MAKERS.items():
        for is_old in (False, True):
            folder = base / f"{name} {is_old}"
            calls = call(maker(*prepare(folder, is_old)), Injection(folder)).calls
            for n, called in enumerate(calls, start=1):
                cuts = (HALF, NOTHING) if called.name == "write" else (NOTHING,)
                cases += [(name, is_old, n, called, cut) for cut in cuts]
    return tuple(cases)


def _at_every_call(trial: Trial) -> None:
    """Killed at a call; then a row is appended, or not, or one is taken back by hand, before the next reader comes."""
    name, is_old, n, called, cut = _cases(trial.folder.parent)[trial.number]
    for later in ("nothing", "a row"):
        folder = trial.folder / later
        runs, agg = prepare(folder, is_old)
        trial.killed(call(MAKERS[name](runs, agg), Injection(folder, n, KILL, kept=cut)).was_killed)
        if later == "a row":
            append_row(runs, row_of("late", 0))
            trial.promise(1)
        _check(trial, runs, agg, f"{name} killed at call {n} ({called}), then {later}")


SUBJECTS = [
    Subject("averages", lambda _: KILLS // 2, _killed),
    Subject("averages_at_once", lambda _: 60, _several_at_once),
    Subject(
        "averages_calls", lambda base: len(_cases(base)), _at_every_call, is_exhaustive=True, missing=injection.missing
    ),
]
