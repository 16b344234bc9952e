"""Grids of light runs, killed with or without their children, and begun again until nothing is left to do."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from epochcast.collect.grid.grid_loop import GridOptions, run_grid
from epochcast.collect.grid.result import GridResult
from epochcast.collect.grid.specs import PlannedRun, grid_runs
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.paths import failures_csv
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.tables import read_table
from tests.chaos.invariants import leftover_faults, table_faults
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial
from tests.support.light_child import EPOCH_SEC, FIRST_SEC, command, light_spec, starts

KILLS = 90
KILLS_EACH = 3  # in one try
SIZES = (16, 32, 64, 128, 256, 512)
TIMES = (FIRST_SEC, EPOCH_SEC, EPOCH_SEC, EPOCH_SEC)  # what every light run says
CHILDREN = 0.35  # of the kills; the others are of the grid itself
PATIENCE_SEC = 5.0
MOST_TRIES = 12  # of the same command, until nothing is left


def planned_runs() -> list[PlannedRun]:
    return grid_runs([light_spec(batch_size=size) for size in SIZES], 1, {})


def grid(runs: Path, log_dir: Path, trace: Path, seed: int = 0) -> GridResult:
    """The whole grid, as its command would run it, in a process of its own."""
    os.environ["LIGHT_CHILD_TRACE"] = str(trace)
    place = RunPlace(runs, log_dir, child=command("ok", str(trace)))
    return run_grid(planned_runs(), place, GridOptions(seed), Listener(functools.partial(print, flush=True)))


def children_of(trace: Path) -> list[int]:
    """Process ids of the light children that were started with this trace and live.

    By their command lines: a process id that was noted earlier may be somebody else's by now.
    """
    word = os.fsencode(trace)
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes().split(b"\0"):  # empty for one that has ended
                pids.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return sorted(pids)


@functools.cache
def run_sec() -> float:
    """Seconds that one light run takes here, at this moment's load."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.monotonic()
        n = len(call(lambda: grid(folder / "runs.csv", folder, folder / "trace")).returned().measured)
        return (time.monotonic() - start) / n


def wait_a_while(trial: Trial, process: Process, trace: Path) -> None:
    """Wait for a random moment of the next two runs, however busy the box is."""
    n = len(starts(trace)) + trial.rng.randrange(2)
    while len(starts(trace)) < n and not process.has_ended():
        time.sleep(0.002)
    time.sleep(trial.rng.uniform(0, run_sec()))


def kill_one(trial: Trial, process: Process, trace: Path) -> None:
    """Kill -9 the process, or a child that it has at this moment."""
    if trial.rng.random() < CHILDREN and (alive := children_of(trace)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(alive[-1], signal.SIGKILL)
            trial.killed()
            return
    trial.killed(process.kill())


def kill_often(trial: Trial, again: Callable[[], object], trace: Path) -> None:
    """Begin it, kill it or a child of it, and begin it again where it was killed itself, KILLS_EACH times."""
    run_sec()  # measured before anything is to be killed
    process = Process(again)
    for number in range(1, KILLS_EACH + 1):
        wait_a_while(trial, process, trace)
        if number == KILLS_EACH:
            trial.killed(process.kill())
        else:
            kill_one(trial, process, trace)
        if process.has_ended() and number < KILLS_EACH:
            process.wait()
            process = Process(again)
    process.wait()


def finish(trial: Trial, again: Callable[[], GridResult], n_wanted: int, runs: Path) -> None:
    """Give the same command until it has nothing left to measure; what a kill ended is measured again."""
    for _ in range(MOST_TRIES):
        ending = call(again)
        if ending.error is not None:
            trial.fault("other", f"begun again, it fails | {ending.error}")
            return
        if not ending.value.measured and not ending.value.failures:
            break
    rows = read_table(runs, RunRecord) if runs.exists() else []
    if len(rows) < n_wanted:
        trial.fault("lost", f"begun again, it never comes to its end | {len(rows)} of {n_wanted} rows")


def run_faults(
    trial: Trial, runs: Path, wanted: list[PlannedRun], older: Mapping[str, RunRecord] = MappingProxyType({})
) -> None:
    """One row of each run, as the light child told it, beside older ones; failures that can be read."""
    rows = call(lambda: read_table(runs, RunRecord))
    if rows.error is not None:
        trial.fault("torn", f"the table can't be read | {rows.error}")
        return
    sizes = {run.run_id: run.spec.batch_size for run in wanted}
    for row in rows.value:
        if row.run_id not in older and (
            row.epoch_times_json != TIMES[: row.epochs] or row.batch_size != sizes.get(str(row.run_id))
        ):
            trial.fault("torn", f"a row is not what its run said | {row.run_id}: {row.epoch_times_json}")
    written = {**{str(row.run_id): row for row in rows.value}, **older}
    promised = [*older, *sizes]
    trial.promise(len(promised))
    trial.faults(table_faults(runs, promised, written))
    if (failures := failures_csv(runs)).exists():
        failed = call(lambda: read_table(failures, FailureRecord))
        if failed.error is not None:
            trial.fault("torn", f"the table of failures can't be read | {failed.error}")
        elif odd := {f.status for f in failed.value} - {"killed", "crash"}:
            trial.fault("other", f"a killed run is called otherwise | {odd}")


def orphan_faults(trial: Trial, *traces: Path) -> None:
    """Measuring processes that outlive their grid by more than PATIENCE_SEC."""
    deadline = time.monotonic() + PATIENCE_SEC
    while (alive := [pid for trace in traces for pid in children_of(trace)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    if alive:
        trial.fault("other", f"a measuring process outlives its grid | {alive}")
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _killed_and_begun_again(trial: Trial) -> None:
    runs, log_dir, trace = trial.folder / "runs.csv", trial.folder / "logs", trial.folder / "trace"
    again = functools.partial(grid, runs, log_dir, trace, trial.number)
    kill_often(trial, again, trace)
    orphan_faults(trial, trace)
    finish(trial, again, len(SIZES), runs)
    trial.faults(leftover_faults(trial.folder))
    run_faults(trial, runs, planned_runs())
    orphan_faults(trial, trace)


def _two_at_once(trial: Trial) -> None:
    """Two grids of the same runs on one table, with one folder of logs or with two; some are killed."""
    runs = trial.folder / "runs.csv"
    has_two = trial.number % 2 == 1
    logs = [trial.folder / "logs", trial.folder / ("more_logs" if has_two else "logs")]
    traces = [trial.folder / "trace", trial.folder / "trace2"]
    again = [
        functools.partial(grid, runs, *pair, seed)
        for pair, seed in zip(zip(logs, traces, strict=True), (trial.number, trial.number + 1), strict=True)
    ]
    run_sec()
    processes = [Process(function) for function in again]
    if trial.number % 4 >= 2:
        which = trial.rng.randrange(2)
        wait_a_while(trial, processes[which], traces[which])
        kill_one(trial, processes[which], traces[which])
    for process in processes:
        if (ending := process.wait()).error is not None:
            trial.fault("other", f"one of two grids at once fails | {ending.error}")
    for function in again:
        finish(trial, function, len(SIZES), runs)
    trial.faults(leftover_faults(trial.folder))
    run_faults(trial, runs, planned_runs())
    orphan_faults(trial, *traces)


SUBJECTS = [
    Subject("grids", lambda _: KILLS // KILLS_EACH, _killed_and_begun_again),
    Subject("two_grids", lambda _: 16, _two_at_once),
]
