"""Run one spec in a process of its own and turn what comes of it into a row: of runs.csv, or of failures.csv.

A process per run, because a training step that runs out of memory can kill its process and memory is not given back
between models. The parent owns every file: the log, the JSON beside it and the tables.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from collect.child import CHILD, ChildReport, noted_interrupts, run_child
from collect.outcome import failure_of, record_of
from collect.run_lines import epoch_line, is_shown, result_lines, started_line
from collect.watch import Beside, Watch
from epochcast.files import write_json_atomically
from epochcast.paths import failures_csv
from epochcast.schema import (
    WARMUP_EPOCHS,
    FailureRecord,
    RunRecord,
    RunSpec,
    to_json_dict,
)
from epochcast.tables import append_row, check_appendable, read_table

DEFAULT = RunSpec()
LATER_FIELDS = ("steps_per_execution", "target_ci", "max_epochs", "max_sec", "compile_cache")  # new in schema 2
RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class RunRefusedError(ValueError):
    """The run can't be measured on this box as it was asked for; nothing was trained."""


class RunClaimedError(ValueError):
    """Another process is measuring this run_id at this moment."""


class RunExistsError(ValueError):
    """The table holds a run of this run_id already."""


def spec_id(spec: RunSpec, device_name: str) -> str:
    """A name for a spec on a device, equal whenever it is asked for again, e.g. `d2_f16_b128-1f0c9a52`."""
    values = asdict(spec)
    for name in LATER_FIELDS:  # at its default it is what was measured before there was such a field: the same run
        if values[name] == getattr(DEFAULT, name):
            del values[name]
    asked = json.dumps([values, device_name, os.environ.get("KERAS_BACKEND", "")], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
    return f"d{spec.depth}_f{spec.base_filters}_b{spec.batch_size}-{digest}"


def new_run_id(spec: RunSpec) -> str:
    """A name for a run measured by hand: configuration, start and four random letters."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"d{spec.depth}_f{spec.base_filters}_b{spec.batch_size}-{stamp}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def claimed_log(log_dir: Path, run_id: str) -> Iterator[IO[bytes]]:
    """The run's log, opened for appending and locked: a run_id is measured, or recovered, by one process at a time.

    Raises:
        RunClaimedError: if another process holds it.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    with (log_dir / f"{run_id}.txt").open("ab", buffering=0) as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunClaimedError(f"run {run_id} is being measured by another process.") from None
        yield log


def run(
    spec: RunSpec,
    *,
    run_id: str,
    runs: Path,
    log_dir: Path,
    grid_id: str | None = None,
    timeout_sec: float | None = None,
    idle_sec: float = 0.0,
    child: Sequence[str] = CHILD,
    say: Callable[[str], None] = lambda line: None,
    on_output: Callable[[bytes], None] = lambda data: None,
    interrupts: Sequence[int] | None = None,
) -> RunRecord | FailureRecord:
    """Measure one spec in a process of its own, append its row and return it.

    `say` gets each line a person should see (the same stand in `log_dir/<run_id>.txt`), `on_output` what the child
    prints; what they raise because their reader left does not end the measurement. `idle_sec` is waited before the
    first epoch where the GPU's power can be read. `child` is the command of the measuring process; it speaks the events
    of `collect.measure`. `interrupts` are the signals that a caller's `noted_interrupts` notes; without them they are
    noted here.

    Raises:
        RunRefusedError: if the run can't be measured here as asked; no row is written.
        RunClaimedError: if another process is measuring this run_id.
        RunExistsError: if the table holds this run_id already.
        ValueError, OSError: if the table can't take the row, found before anything is measured.
        OSError: if the row could not be appended after all; it is then in `log_dir/<run_id>.json` and in the message.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"run_id {run_id!r} names files: use only letters, digits, '.', '_' and '-'.")
    runs, log_dir = runs.absolute(), log_dir.absolute()
    check_appendable(runs, RunRecord)
    if (failures := failures_csv(runs)).exists():
        check_appendable(failures, FailureRecord)
    with contextlib.ExitStack() as stack:
        if interrupts is None:
            interrupts = stack.enter_context(noted_interrupts())
        log = stack.enter_context(claimed_log(log_dir, run_id))
        _check_is_new(run_id, runs, log_dir)

        def tell(line: str) -> None:
            with contextlib.suppress(OSError):  # a full disk does not end a measurement
                log.write(f"{line}\n".encode(errors="replace"))
            with contextlib.suppress(OSError):  # nor does a reader of our output that left
                say(line)

        def take_output(data: bytes) -> None:
            with contextlib.suppress(OSError):
                log.write(data)
            with contextlib.suppress(OSError):
                on_output(data)

        def take_event(event: dict[str, Any]) -> None:
            watch.take(event)
            if event["event"] == "started":
                tell(started_line(spec, event))
            elif event["event"] == "epoch" and is_shown(spec, watch.n_epochs):
                tell(epoch_line(spec, watch.n_epochs, event))

        watch = stack.enter_context(Watch(spec, log_dir / f"{run_id}.energy.csv"))
        report = run_child(
            spec,
            child,
            take_event,
            take_output,
            timeout_sec,
            interrupts,
            idle_sec=idle_sec if watch.tells_power else 0.0,
            on_start=watch.started,
        )
        if report.refusal is not None:
            raise RunRefusedError(report.refusal)
        if report.done is None or not report.epoch_times[WARMUP_EPOCHS:]:
            failure = failure_of(spec, report, run_id, grid_id)
            append_row(failures, failure)
            tell(f"FAILED: {json.dumps(to_json_dict(failure))}")
            return failure
        try:
            beside = watch.beside(report)
            record = record_of(spec, report, run_id, grid_id, beside)
        except Exception as error:  # whatever a driver said: what was timed is not lost by it
            tell(f"WARNING: what went on beside the run is not known: {type(error).__name__}: {error}")
            beside = Beside()
            record = record_of(spec, report, run_id, grid_id, beside)
        for line in result_lines(record):
            tell(line)
        _keep(record, spec, report, beside, runs, log_dir, tell)
        return record


def _check_is_new(run_id: str, runs: Path, log_dir: Path) -> None:
    """Raise unless the run is in the table neither now nor, kept in its JSON, after a recovery. The claim is held."""
    if any(row.run_id == run_id for row in read_table(runs, RunRecord)):
        raise RunExistsError(f"{runs} holds a run {run_id} already. Choose another --run_id, or leave it out.")
    sidecar = log_dir / f"{run_id}.json"
    try:
        table = Path(json.loads(sidecar.read_bytes())["table"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none, or none that a recovery could use
    if table.resolve() == runs.resolve():
        raise ValueError(
            f"{sidecar} keeps a finished run {run_id} that is not in {runs}. Append it with `epochcast recover`, or "
            "choose another --run_id."
        )


def _keep(
    record: RunRecord,
    spec: RunSpec,
    report: ChildReport,
    beside: Beside,
    runs: Path,
    log_dir: Path,
    tell: Callable[[str], None],
) -> None:
    """Put a finished run where it can't be lost: its JSON first, then the table, then the log."""
    row = to_json_dict(record)
    sidecar = log_dir / f"{record.run_id}.json"
    kept = {
        "table": str(runs),
        "row": row,
        "spec": asdict(spec),
        "data_origin": report.started.get("data_origin"),
        "framework": (report.done or {}).get("framework"),
        "environment": beside.environment,
        "epoch_edges_sec": report.edges,
    }
    sidecar_problem = table_problem = None
    try:
        write_json_atomically(sidecar, kept)
    except OSError as error:
        sidecar_problem = error
    try:
        append_row(runs, record)
    except (OSError, ValueError) as error:
        table_problem = error
    tell(f"LOGGED: {json.dumps(row)}")
    if table_problem is None:
        if sidecar_problem is not None:
            tell(f"WARNING: {sidecar_problem}; the row is in the table all the same")
        return
    rescue = f"It is kept in {sidecar}: mend that, then say `epochcast recover`."
    if sidecar_problem is not None:
        rescue = f"Neither could {sidecar} be written: the LOGGED line above is the only copy, keep it."
    raise OSError(f"the finished run {record.run_id} is not in {runs}: {table_problem}. {rescue}") from table_problem
