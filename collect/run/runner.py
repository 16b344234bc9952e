"""Run one spec in a process of its own and make a row of what comes of it: of runs.csv, or of failures.csv.

A process per run, because a training step that runs out of memory can kill its process and memory is not given back
between models. The parent owns every file: the log, the JSON next to it and the tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from epochcast.collect.records.append_rows import append_failure, append_finished, check_is_new
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.records.reserved import claimed_log, claimed_run, reserved_space
from epochcast.collect.run.child import ChildListener, ChildReport, noted_interrupts, run_child
from epochcast.collect.run.device_lock import device_access
from epochcast.collect.run.listener import SILENT, Listener, RunLog
from epochcast.collect.run.monitor import Observations, Watch
from epochcast.collect.run.outcome import failure_of, record_of
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.text import epoch_line, is_shown, result_lines, started_line
from epochcast.guard import EXIT_INTERRUPTED
from epochcast.machine.gpu_driver import device_of
from epochcast.paths import failures_csv
from epochcast.schema import WARMUP_EPOCHS, FailureRecord, RunRecord, RunSpec, to_json_dict
from epochcast.storage.table_appends import check_appendable


class RunRefusedError(ValueError):
    """The run can't be measured on this box as it was asked for; nothing was trained."""


def require_device(spec: RunSpec) -> None:
    """Raise a RunRefusedError where this box has no device to use as the spec asks."""
    if (refusal := device_of(spec.device).refusal) is not None and refusal.is_certain:
        raise RunRefusedError(str(refusal))


def run(
    spec: RunSpec,
    run_id: str,
    place: RunPlace,
    listener: Listener = SILENT,
    *,
    timeout_sec: float | None = None,
    interrupts: Sequence[int] | None = None,
) -> RunRecord | FailureRecord:
    """Measure one spec in a process of its own, append its row and return it.

    What a listener raises because its reader left does not end the measurement; the lines that it gets stand in
    `<run_id>.txt` too.

    Args:
        interrupts: the signals that a caller's `noted_interrupts` notes; without them they are noted here.

    Raises:
        DeviceBusyError: if another run is on the device for all of the wait; nothing was measured.
        RunRefusedError: if the run can't be measured here as asked; no row is written.
        RunClaimedError: if another process is measuring this run_id.
        RunExistsError: if the table holds this run_id already.
        ValueError, OSError: if the table can't take the row, found before anything is measured.
        OSError: if the row could not be appended after all; the message says where it is kept.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"run_id {run_id!r} names files: use only letters, digits, '.', '_' and '-'.")
    require_device(spec)
    runs, log_dir = place.runs.absolute(), place.log_dir.absolute()
    check_appendable(runs, RunRecord)
    if (failures := failures_csv(runs)).exists():
        check_appendable(failures, FailureRecord)
    with contextlib.ExitStack() as stack:
        if interrupts is None:
            interrupts = stack.enter_context(noted_interrupts())
        stack.enter_context(claimed_run(runs, run_id))
        log = RunLog(stack.enter_context(claimed_log(log_dir, run_id)), listener)
        rows = check_is_new(run_id, runs, log_dir)
        space = stack.enter_context(reserved_space(spec, runs, log_dir))
        # after the claims, which wait for nobody: the one lock that is waited for
        access = stack.enter_context(device_access(spec.device, run_id, place.sharing, log.report, interrupts))
        watch = stack.enter_context(Watch(spec, log_dir / f"{run_id}.energy.csv", is_shared=access.is_shared))
        if access.was_interrupted:
            report = ChildReport(exit_code=EXIT_INTERRUPTED, was_interrupted=True)  # nothing was started
        else:
            hears = ChildListener(_event_taker(spec, watch, log), log.output, watch.started)
            idle_sec = place.idle_sec if watch.reads_power else 0.0
            report = run_child(
                spec, hears, idle_sec=idle_sec, timeout_sec=timeout_sec, interrupts=interrupts, child=place.child
            )
        for odd in report.odd:
            log.detail(f"WARNING: passed over from the measuring process: {odd}")
        if report.refusal is not None and not report.epoch_times:
            raise RunRefusedError(report.refusal)
        record, observed, left_out = _outcome(spec, report, run_id, place.grid_id, watch, rows)
        for problem in left_out:
            log.detail(f"WARNING: {problem}")
        space.release_row()
        if isinstance(record, FailureRecord):
            append_failure(record, runs, log_dir, log.detail)
            return record
        for line in result_lines(record):
            log.detail(line)
        kept = {"table": str(runs), "row": to_json_dict(record), **_kept(spec, report, observed, left_out)}
        append_finished(record, kept, runs, log_dir, space, log.detail)
        return record


def _event_taker(spec: RunSpec, watch: Watch, log: RunLog) -> Callable[[dict[str, Any]], None]:
    """Return what gets the events of the measuring process: the watch first, then whoever reads the lines."""

    def take(event: dict[str, Any]) -> None:
        try:
            watch.take(event)
            if event["event"] == "started":
                log.detail(started_line(spec, event))
            elif event["event"] == "epoch" and is_shown(spec, watch.n_epochs):
                log.detail(epoch_line(spec, watch.n_epochs, event))
        except Exception as error:  # what can't be shown, or watched, is measured all the same
            log.note(f"WARNING: {type(error).__name__}: {error}")

    return take


def _kept(spec: RunSpec, report: ChildReport, observed: Observations, left_out: Sequence[str]) -> dict[str, Any]:
    """Return what the JSON of a finished run holds besides its row."""
    done = report.done or {}
    return {
        "spec": asdict(spec),
        "data_origin": report.started.get("data_origin"),
        "framework": done.get("framework"),
        "environment": observed.environment,
        "epoch_edges_sec": [None if edges is None else list(edges) for edges in report.edges],
        "problems": {**done.get("problems", {}), "row": list(left_out), "events": report.odd},
    }


def _outcome(
    spec: RunSpec, report: ChildReport, run_id: str, grid_id: str | None, watch: Watch, rows: Sequence[RunRecord]
) -> tuple[RunRecord | FailureRecord, Observations, list[str]]:
    """Return what a run comes to: a row, or a failure with the epochs timed; and what is not known of it, and why.

    A process that ends after its last epoch, however it does, has measured all that a row needs.
    """
    has_ended = report.done is not None or report.timed is not None
    if report.fault is not None or not has_ended or not report.epoch_times[WARMUP_EPOCHS:]:
        return failure_of(spec, report, run_id, grid_id), Observations(), []
    problems = []
    if report.done is None:
        failure = failure_of(spec, report, run_id, grid_id)
        problems.append(f"the process ended after its last epoch, before its evaluation: {failure.message}")
    try:
        observed = watch.observations(report)
        record, left_out = record_of(spec, report, run_id, grid_id, observed, rows)
        return record, observed, problems + left_out
    except Exception as error:  # whatever a driver said: what was timed is not lost by it
        problems.append(f"what went on beside the run is not known: {type(error).__name__}: {error}")
    try:
        observed = Observations(flags=watch.shared_flags(report))
        record, left_out = record_of(spec, report, run_id, grid_id, observed, rows)
        return record, observed, problems + left_out
    except Exception as error:
        return failure_of(spec, report, run_id, grid_id, problem=str(error)), Observations(), problems
