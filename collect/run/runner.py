"""Run one spec in a process of its own and turn what comes of it into a row: of runs.csv, or of failures.csv.

A process per run, because a training step that runs out of memory can kill its process and memory is not given back
between models. The parent owns every file: the log, the JSON beside it and the tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from epochcast.collect.records.append_rows import append_failure, append_finished, check_is_new
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.records.reserved import claimed_log, claimed_run, reserved_space
from epochcast.collect.run.child import CHILD, ChildReport, noted_interrupts, run_child
from epochcast.collect.run.device_lock import WAITING, Place, Sharing, place_on_device
from epochcast.collect.run.monitor import Beside, Watch
from epochcast.collect.run.outcome import failure_of, record_of
from epochcast.collect.run.text import epoch_line, is_shown, result_lines, started_line
from epochcast.facts.assumptions import device_kind_of
from epochcast.guard import EXIT_INTERRUPTED
from epochcast.machine.gpu_driver import device_of
from epochcast.paths import failures_csv
from epochcast.schema import WARMUP_EPOCHS, FailureRecord, RunRecord, RunSpec, to_json_dict
from epochcast.storage.tables import check_appendable


class RunRefusedError(ValueError):
    """The run can't be measured on this box as it was asked for; nothing was trained."""


def require_device(spec: RunSpec) -> None:
    """Raise a RunRefusedError where this box has no device to use as the spec asks."""
    if (refusal := device_of(spec.device).refusal) is not None and refusal.is_certain:
        raise RunRefusedError(str(refusal))


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
    sharing: Sharing = WAITING,
) -> RunRecord | FailureRecord:
    """Measure one spec in a process of its own, append its row and return it.

    `say` gets each line a person should see (the same stand in `log_dir/<run_id>.txt`), `on_output` what the child
    prints; what they raise because their reader left does not end the measurement. `idle_sec` is waited before the
    first epoch where the GPU's power can be read. `child` is the command of the measuring process; it speaks the events
    of `run.measure`. `interrupts` are the signals that a caller's `noted_interrupts` notes; without them they are
    noted here. `sharing` says what to do while another run is on the device.

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
    runs, log_dir = runs.absolute(), log_dir.absolute()
    check_appendable(runs, RunRecord)
    if (failures := failures_csv(runs)).exists():
        check_appendable(failures, FailureRecord)
    with contextlib.ExitStack() as stack:
        if interrupts is None:
            interrupts = stack.enter_context(noted_interrupts())
        stack.enter_context(claimed_run(runs, run_id))
        log = stack.enter_context(claimed_log(log_dir, run_id))
        rows = check_is_new(run_id, runs, log_dir)
        space = stack.enter_context(reserved_space(spec, runs, log_dir))

        def note(line: str) -> None:
            with contextlib.suppress(OSError):  # a full disk does not end a measurement
                log.write(f"{line}\n".encode(errors="replace"))

        def tell(line: str) -> None:
            note(line)
            with contextlib.suppress(Exception):  # nor does a reader of our output that left, or can't show it
                say(line)

        def tell_of_device(line: str) -> None:
            tell(line)
            with contextlib.suppress(Exception):
                sharing.say(line)

        def take_output(data: bytes) -> None:
            with contextlib.suppress(OSError):
                log.write(data)
            with contextlib.suppress(Exception):
                on_output(data)

        def take_event(event: dict[str, Any]) -> None:
            try:
                watch.take(event)
                if event["event"] == "started":
                    tell(started_line(spec, event))
                elif event["event"] == "epoch" and is_shown(spec, watch.n_epochs):
                    tell(epoch_line(spec, watch.n_epochs, event))
            except Exception as error:  # what can't be shown, or watched, is measured all the same
                note(f"WARNING: {type(error).__name__}: {error}")

        # after the claims, which wait for nobody: the one lock that is waited for
        place = stack.enter_context(place_on_device(spec.device, run_id, sharing, tell_of_device, interrupts))
        watch = stack.enter_context(Watch(spec, log_dir / f"{run_id}.energy.csv"))
        if place.was_interrupted:
            report = ChildReport(exit_code=EXIT_INTERRUPTED, was_interrupted=True)  # nothing was started
        else:
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
        for odd in report.odd:
            tell(f"WARNING: passed over from the measuring process: {odd}")
        if report.refusal is not None and not report.epoch_times:
            raise RunRefusedError(report.refusal)
        record, beside, left_out = _outcome(spec, report, run_id, grid_id, watch, place, rows)
        for problem in left_out:
            tell(f"WARNING: {problem}")
        space.release_row()
        if isinstance(record, FailureRecord):
            append_failure(record, runs, log_dir, tell)
            return record
        for line in result_lines(record):
            tell(line)
        append_finished(record, _kept(record, spec, report, beside, left_out, runs), runs, log_dir, space, tell)
        return record


def _kept(
    record: RunRecord, spec: RunSpec, report: ChildReport, beside: Beside, left_out: Sequence[str], runs: Path
) -> dict[str, Any]:
    """What the JSON of a finished run holds."""
    done = report.done or {}
    return {
        "table": str(runs),
        "row": to_json_dict(record),
        "spec": asdict(spec),
        "data_origin": report.started.get("data_origin"),
        "framework": done.get("framework"),
        "environment": beside.environment,
        "epoch_edges_sec": [None if edges is None else list(edges) for edges in report.edges],
        "problems": {**done.get("problems", {}), "row": list(left_out), "events": report.odd},
    }


def _outcome(
    spec: RunSpec,
    report: ChildReport,
    run_id: str,
    grid_id: str | None,
    watch: Watch,
    place: Place,
    rows: Sequence[RunRecord],
) -> tuple[RunRecord | FailureRecord, Beside, list[str]]:
    """What a run comes to: a row, or a failure that holds the epochs timed; and what is not known of it, and why.

    A process that ends after its last epoch, however it does, has measured all that a row needs.
    """
    has_ended = report.done is not None or report.timed is not None
    if report.fault is not None or not has_ended or not report.epoch_times[WARMUP_EPOCHS:]:
        return failure_of(spec, report, run_id, grid_id), Beside(), []
    problems = []
    if report.done is None:
        failure = failure_of(spec, report, run_id, grid_id)
        problems.append(f"the process ended after its last epoch, before its evaluation: {failure.message}")
    try:
        beside = _flagged_as_shared(watch.beside(report), report, place)
        record, left_out = record_of(spec, report, run_id, grid_id, beside, rows)
        return record, beside, problems + left_out
    except Exception as error:  # whatever a driver said: what was timed is not lost by it
        problems.append(f"what went on beside the run is not known: {type(error).__name__}: {error}")
    try:
        beside = _flagged_as_shared(Beside(), report, place)
        record, left_out = record_of(spec, report, run_id, grid_id, beside, rows)
        return record, beside, problems + left_out
    except Exception as error:
        return failure_of(spec, report, run_id, grid_id, problem=str(error)), Beside(), problems


def _flagged_as_shared(beside: Beside, report: ChildReport, place: Place) -> Beside:
    """The same with the flag of a run that another one was on the device with."""
    if not place.is_shared:
        return beside
    is_on_cpu = device_kind_of(report.started.get("device_name")) == "cpu"
    return replace(beside, flags=beside.flags | {"busy_host" if is_on_cpu else "shared_gpu"})
