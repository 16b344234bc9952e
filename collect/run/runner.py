"""Run one spec in a process of its own and turn what comes of it into a row: of runs.csv, or of failures.csv.

A process per run, because a training step that runs out of memory can kill its process and memory is not given back
between models. The parent owns every file: the log, the JSON beside it and the tables.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from epochcast.collect.records.kept import (
    FAILED,
    LOGGED,
    RUN_ID,
    free_name,
    kept_bytes,
    kept_files,
    lines_of_row,
    read_kept,
    recover_command,
)
from epochcast.collect.records.reserved import RunClaimedError, Space, claimed_run, reserved_space
from epochcast.collect.run.child import CHILD, ChildReport, noted_interrupts, run_child
from epochcast.collect.run.device_lock import WAITING, Place, Sharing, place_on_device
from epochcast.collect.run.monitor import Beside, Watch
from epochcast.collect.run.outcome import failure_of, record_of
from epochcast.collect.run.text import epoch_line, is_shown, result_lines, started_line
from epochcast.facts.assumptions import device_kind_of
from epochcast.guard import EXIT_INTERRUPTED
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.packages import backend_name
from epochcast.paths import failures_csv
from epochcast.schema import (
    WARMUP_EPOCHS,
    FailureRecord,
    RunRecord,
    RunSpec,
    to_json_dict,
)
from epochcast.storage.files import make_folder
from epochcast.storage.locks import try_lock
from epochcast.storage.tables import DuplicateRunError, append_row, check_appendable, read_table

logger = logging.getLogger(__name__)

DEFAULT = RunSpec()
LATER_FIELDS = ("steps_per_execution", "target_ci", "max_epochs", "max_sec", "compile_cache")  # new in schema 2


class RunRefusedError(ValueError):
    """The run can't be measured on this box as it was asked for; nothing was trained."""


class RunExistsError(ValueError):
    """The table holds a run of this run_id already."""


def require_device(spec: RunSpec) -> None:
    """Raise a RunRefusedError where this box has no device to use as the spec asks."""
    if (refusal := device_of(spec.device).refusal) is not None and refusal.is_certain:
        raise RunRefusedError(str(refusal))


def spec_id(spec: RunSpec, device_name: str) -> str:
    """Return a name for a spec on a device, equal whenever it is asked for again, e.g. `d2_f16_b128-1f0c9a52`.

    It is of the backend that Keras will take here.
    """
    return spec_ids(spec, [(device_name, backend_name())])[0]


def spec_ids(spec: RunSpec, places: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of a spec on devices with backends; as quick for a hundred as `spec_id` for a few."""
    values = asdict(spec)
    for name in LATER_FIELDS:  # at its default it is what was measured before there was such a field: the same run
        if values[name] == getattr(DEFAULT, name):
            del values[name]
    lead = spec.config.slug
    of_spec = hashlib.sha256(f"[{json.dumps(values, sort_keys=True)}, ".encode())
    names = []
    for place in places:
        digest = of_spec.copy()
        digest.update(_place_bytes(*place))
        names.append(f"{lead}-{digest.hexdigest()[:8]}")
    return names


@functools.lru_cache(maxsize=4096)
def _place_bytes(device_name: str, backend: str) -> bytes:
    return f"{json.dumps(device_name)}, {json.dumps(backend)}]".encode()


def new_run_id(spec: RunSpec) -> str:
    """A name for a run measured by hand: configuration, start and four random letters."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{spec.config.slug}-{stamp}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def claimed_log(log_dir: Path, run_id: str) -> Iterator[IO[bytes]]:
    """The run's log, opened for appending and locked: a run_id is measured, or recovered, by one process at a time.

    Raises:
        RunClaimedError: if another process holds it.
    """
    make_folder(log_dir)
    path = log_dir / f"{run_id}.txt"
    # a pipe would be waited for
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    with os.fdopen(descriptor, "ab", buffering=0) as log:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file: a log can't be kept in it", str(path))
        if not try_lock(descriptor, path):
            raise RunClaimedError(f"run {run_id} is being measured by another process.")
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
        rows = _check_is_new(run_id, runs, log_dir)
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
            for line in lines_of_row(FAILED, to_json_dict(record), failures):
                tell(line)
            _append_failure(record, failures, runs, log_dir)
            return record
        for line in result_lines(record):
            tell(line)
        _keep(record, _kept(record, spec, report, beside, left_out, runs), runs, log_dir, space, tell)
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


def _check_is_new(run_id: str, runs: Path, log_dir: Path) -> list[RunRecord]:
    """Return the table's rows; raise if the run is among them, or will be after a recovery. The claim is kept."""
    rows = read_table(runs, RunRecord)
    if any(row.run_id == run_id for row in rows):
        raise RunExistsError(f"{runs} holds a run {run_id} already. Choose another --run_id, or leave it out.")
    for path in kept_files(log_dir, run_id):
        try:
            table = read_kept(path).table
        except (OSError, ValueError):
            continue  # none that a recovery could use; it is not written over
        if table is not None and os.path.realpath(table) == os.path.realpath(runs):
            raise ValueError(
                f"{path} keeps a finished run {run_id} that is not in {runs}. Append it with "
                f"`{recover_command(runs, log_dir)}`, or choose another --run_id."
            )
    return rows


def _append_failure(failure: FailureRecord, failures: Path, runs: Path, log_dir: Path) -> None:
    try:
        append_row(failures, failure)
    except (OSError, ValueError) as error:
        _print_last_copy(lines_of_row(FAILED, to_json_dict(failure), failures))
        command = recover_command(runs, log_dir, "--log", "FILE")
        raise OSError(
            f"the run {failure.run_id} ended as {failure.status} and could not be noted in {failures}: {error}. The "
            f"FAILED line above holds its epochs: mend that, save the line to a file, and say `{command}`."
        ) from error


def _keep(
    record: RunRecord, kept: Mapping[str, Any], runs: Path, log_dir: Path, space: Space, tell: Callable[[str], None]
) -> None:
    """Put a finished run where it can't be lost: its JSON first, then the table, then the log."""
    sidecar_problem = table_problem = None
    sidecar = free_name(log_dir, str(record.run_id))
    try:
        space.write_json(sidecar, kept_bytes(kept))
    except (OSError, ValueError) as error:
        sidecar_problem = error
    try:
        append_row(runs, record)
    except (OSError, ValueError) as error:
        table_problem = error
    lines = lines_of_row(LOGGED, kept["row"], runs)
    for line in lines:
        tell(line)
    if table_problem is None:
        if sidecar_problem is not None:
            tell(f"WARNING: {sidecar_problem}; the row is in the table all the same")
        return
    if isinstance(table_problem, DuplicateRunError):
        text = f"{table_problem} Another process measured it meanwhile; this one is kept in {sidecar} and not appended."
        logger.warning("%s", text)
        raise RunExistsError(text)
    rescue = f"It is kept in {sidecar}: mend that, then say `{recover_command(runs, log_dir)}`."
    if sidecar_problem is not None:
        _print_last_copy(lines)  # whatever the caller does with our lines
        rescue = (
            f"Neither could {sidecar} be written: the LOGGED line above is the only copy. Save it to a file, mend "
            f"that, then say `{recover_command(runs, log_dir, '--log', 'FILE')}`."
        )
    raise OSError(f"the finished run {record.run_id} is not in {runs}: {table_problem}. {rescue}") from table_problem


def _print_last_copy(lines: Sequence[str]) -> None:
    """Print on the standard error stream itself, or where that leads nowhere on the standard output."""
    data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    nowhere = Path(os.devnull).stat().st_rdev
    for descriptor in (2, 1):
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_rdev != nowhere and os.write(descriptor, data) == len(data):
                return
