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
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from collect.child import CHILD, ChildReport, noted_interrupts, run_child
from collect.measure import is_out_of_memory
from epochcast.environment import load_average, utc_now
from epochcast.files import write_json_atomically
from epochcast.paths import failures_csv
from epochcast.schema import (
    SCHEMA_VERSION,
    WARMUP_EPOCHS,
    FailureRecord,
    RunRecord,
    RunSpec,
    to_json_dict,
)
from epochcast.stats import steady_time
from epochcast.tables import append_row, check_appendable, read_table

RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class RunRefusedError(ValueError):
    """The run can't be measured on this box as it was asked for; nothing was trained."""


class RunClaimedError(ValueError):
    """Another process is measuring this run_id at this moment."""


class RunExistsError(ValueError):
    """The table holds a run of this run_id already."""


def spec_id(spec: RunSpec, device_name: str) -> str:
    """A name for a spec on a device, equal whenever it is asked for again, e.g. `d2_f16_b128-1f0c9a52`."""
    asked = json.dumps([asdict(spec), device_name, os.environ.get("KERAS_BACKEND", "")], sort_keys=True)
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


def record_of(spec: RunSpec, report: ChildReport, run_id: str, grid_id: str | None) -> RunRecord:
    """The row of a run that finished."""
    assert report.done is not None
    started = {name: value for name, value in report.started.items() if name != "data_origin"}
    times = tuple(report.epoch_times)
    steady = steady_time(times)
    train_n = started["train_n"]
    factor = spec.config.steps_per_epoch(train_n) / spec.window_steps if spec.window_steps else 1.0
    avg_time_sec = factor * statistics.fmean(times[WARMUP_EPOCHS:])
    flags = {"stalled": steady.n_stalled > 0, "unstable": steady.is_unstable, "diverged": report.has_diverged}
    return RunRecord(
        timestamp_utc=utc_now(),
        depth=spec.depth,
        base_filters=spec.base_filters,
        batch_size=spec.batch_size,
        epochs=len(times),
        epoch_times_json=times,
        avg_time_sec=avg_time_sec,
        images_per_sec=train_n / avg_time_sec,
        test_acc=None if report.has_diverged else report.done["test_acc"],
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        grid_id=grid_id,
        timing_mode=spec.timing_mode,
        window_steps=spec.window_steps,
        seed=spec.seed,
        steady_time_sec=factor * steady.sec,
        n_timed=steady.n_timed,
        n_stalled=steady.n_stalled,
        wall_sec=report.wall_sec,
        overhead_sec=report.wall_sec - sum(times),
        cpu_time_sec=report.cpu_time_sec,
        load_avg=load_average(),
        flags=tuple(name for name, is_set in flags.items() if is_set),
        **started,
    )


def failure_of(spec: RunSpec, report: ChildReport, run_id: str, grid_id: str | None) -> FailureRecord:
    """The row of a run that did not finish: what the child said, else what its exit code, signal or output tell."""
    assert report.exit_code is not None
    number = -report.exit_code if report.exit_code < 0 else None
    output = report.output_tail.decode(errors="replace").strip()
    ending = f"exit code {report.exit_code}" if number is None else f"ended by {signal.Signals(number).name}"
    message = f"{ending}; last output: {output.splitlines()[-1][:500]}" if output else ending
    if report.was_interrupted:
        status, message = "interrupted", "interrupted by the user"
    elif report.was_timeout:
        status, message = "timeout", f"stopped after {report.wall_sec:.0f} s"
    elif report.failed is not None:
        status, message = report.failed["status"], report.failed["message"]
    elif is_out_of_memory(output):
        status = "oom"
    elif number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        status, message = "killed", "killed from outside; where memory is short, the kernel does that"
    else:
        status = "crash"
    return FailureRecord(
        timestamp_utc=utc_now(),
        run_id=run_id,
        grid_id=grid_id,
        status=status,
        exit_code=report.exit_code if number is None else None,
        signal=signal.Signals(number).name if number is not None else None,
        depth=spec.depth,
        base_filters=spec.base_filters,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        epoch_times_json=tuple(report.epoch_times),
        wall_sec=report.wall_sec,
        message=" ".join(message.split()),
        spec_json=json.dumps(asdict(spec)),
    )


def epoch_line(spec: RunSpec, event: dict[str, Any]) -> str:
    """One finished epoch (or window) as a line: its seconds, images per second, loss and accuracy."""
    times, logs = event["times"], event["logs"]
    word = "epoch" if spec.window_steps is None else "window"
    images = spec.train_n if spec.window_steps is None else spec.window_steps * spec.batch_size
    note = " (first: not timed)" if len(times) <= WARMUP_EPOCHS else ""
    learning = ", ".join(f"{name} {logs[name]:.4f}" for name in ("loss", "accuracy") if name in logs)
    return f"{word} {len(times)}/{spec.epochs}: {times[-1]:.3f} s, {images / times[-1]:,.0f} images/s, {learning}{note}"


def run(
    spec: RunSpec,
    *,
    run_id: str,
    runs: Path,
    log_dir: Path,
    grid_id: str | None = None,
    timeout_sec: float | None = None,
    child: Sequence[str] = CHILD,
    say: Callable[[str], None] = lambda line: None,
    on_output: Callable[[bytes], None] = lambda data: None,
    interrupts: Sequence[int] | None = None,
) -> RunRecord | FailureRecord:
    """Measure one spec in a process of its own, append its row and return it.

    `say` gets each line a person should see (the same stand in `log_dir/<run_id>.txt`), `on_output` what the child
    prints; what they raise because their reader left does not end the measurement. `child` is the command of the
    measuring process; it speaks the events of `collect.measure`. `interrupts` are the signals that a caller's
    `noted_interrupts` notes; without them they are noted here.

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
            if event["event"] == "started":
                tell(_started_line(spec, event))
            elif event["event"] == "epoch":
                tell(epoch_line(spec, event))

        report = run_child(spec, child, take_event, take_output, timeout_sec, interrupts)
        if report.refusal is not None:
            raise RunRefusedError(report.refusal)
        if report.done is None or not report.epoch_times[WARMUP_EPOCHS:]:
            failure = failure_of(spec, report, run_id, grid_id)
            append_row(failures, failure)
            tell(f"FAILED: {json.dumps(to_json_dict(failure))}")
            return failure
        record = record_of(spec, report, run_id, grid_id)
        _keep(record, spec, report, runs, log_dir, tell)
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


def _started_line(spec: RunSpec, started: dict[str, Any]) -> str:
    return (
        f"{spec.config} with {started['params']:,} parameters on {started['device_name']}, {started['backend']} "
        f"{started['backend_version']}, {started['precision']}, pipeline {started['pipeline']}, XLA "
        f"{started['jit_compile']}; {started['train_n']:,} images of {started['dataset']} ({started['data_origin']})"
    )


def _keep(
    record: RunRecord, spec: RunSpec, report: ChildReport, runs: Path, log_dir: Path, tell: Callable[[str], None]
) -> None:
    """Put a finished run where it can't be lost: its JSON first, then the table, then the log."""
    row = to_json_dict(record)
    sidecar = log_dir / f"{record.run_id}.json"
    kept = {"table": str(runs), "row": row, "spec": asdict(spec), "data_origin": report.started.get("data_origin")}
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
