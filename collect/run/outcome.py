"""What comes of a run as a row: of runs.csv if it finished, else of failures.csv."""

from __future__ import annotations

import json
import signal
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.collect.run.child import ChildReport
from epochcast.collect.run.measure import is_out_of_memory
from epochcast.collect.run.monitor import Observations
from epochcast.gpus.device_names import are_same_conditions
from epochcast.machine.environment import load_average, utc_now
from epochcast.run_noise import Noise, RunNoise
from epochcast.schema import (
    FAILURE_STATUSES,
    FLAGS,
    SCHEMA_VERSION,
    WARMUP_EPOCHS,
    FailureRecord,
    RunRecord,
    RunSpec,
)
from epochcast.steady_time import steady_time, uncertainty_of
from epochcast.storage.cells import checked_line
from epochcast.validation import FieldError

STARTED_COLUMNS = (  # what the process says of itself when it starts
    "tf_version", "params", "device_name", "backend", "backend_version", "keras_version", "precision", "tf32",
    "pipeline", "jit_compile", "steps_per_execution", "dataset", "train_n",
)  # fmt: skip
PER_ENTRY_COLUMNS = ("energy_j_per_epoch", "energy_lo_j", "energy_hi_j", "energy_net_j_per_epoch")  # window -> epoch


def record_of(
    spec: RunSpec,
    report: ChildReport,
    run_id: str,
    grid_id: str | None,
    observed: Observations,
    rows: Sequence[RunRecord] = (),
) -> tuple[RunRecord, list[str]]:
    """The row of a run that finished, and which optional cells were left empty because their value can't be one.

    Stalls are found with the noise of those of `rows`, the table's, that were measured under the same conditions.

    Raises:
        ValueError: if what the process said makes no row.
    """
    done = report.done or report.timed
    assert done is not None
    if not report.started:
        raise ValueError("it did not say on what and how it trained")
    if report.started["train_n"] != spec.train_n:
        raise ValueError(f"it trained on {report.started['train_n']} images, asked for were {spec.train_n}")
    if sum(report.epoch_times) > report.wall_sec:
        raise ValueError(
            f"its epochs take {sum(report.epoch_times):.6g} s together, the whole process {report.wall_sec:.6g} s"
        )
    started = {name: report.started[name] for name in STARTED_COLUMNS if name in report.started}
    times = tuple(report.epoch_times)
    train_n = started["train_n"]
    factor = spec.config.steps_per_epoch(train_n) / spec.window_steps if spec.window_steps else 1.0
    avg_time_sec = factor * statistics.fmean(times[WARMUP_EPOCHS:])
    other_flags = {*(["diverged"] if report.has_diverged else []), *observed.flags}
    columns = dict(observed.columns)
    for name in PER_ENTRY_COLUMNS:
        if columns.get(name) is not None:
            columns[name] *= factor
    optional = columns | {
        "test_acc": None if report.has_diverged else done.get("test_acc"),
        "stop_reason": done.get("stop_reason"),
        "compile_cache": done.get("compile_cache"),
        "peak_memory_bytes": done.get("peak_memory_bytes"),
        "load_avg": load_average(),
        "overhead_sec": report.wall_sec - sum(times) - (columns.get("idle_sec") or 0.0),
    }
    if report.done is None:
        optional["overhead_sec"] = None  # the process died before its end
    values = {
        "timestamp_utc": utc_now(),
        **asdict(spec.config),
        "epochs": len(times),
        "epoch_times_json": times,
        "avg_time_sec": avg_time_sec,
        "images_per_sec": train_n / avg_time_sec,
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "grid_id": grid_id,
        "timing_mode": spec.timing_mode,
        "window_steps": spec.window_steps,
        "seed": spec.seed,
        "wall_sec": report.wall_sec,
        "cpu_time_sec": report.cpu_time_sec,
        **started,
    }
    may_be_short = spec.epochs is None
    alone, left_out = _built(values | _known_of(times, factor, other_flags, may_be_short), optional)
    own = [row.epoch_times_json for row in rows if are_same_conditions(row.conditions, alone.conditions)]
    if (noise := RunNoise(own).of_all()) is None:
        return alone, left_out
    return _built(values | _known_of(times, factor, other_flags, may_be_short, noise), optional)


def _known_of(
    times: Sequence[float], factor: float, other_flags: set[str], may_be_short: bool, noise: Noise | None = None
) -> dict[str, Any]:
    """What a run's epochs say of its steady time, as cells of its row."""
    steady = steady_time(times, noise)
    known = uncertainty_of(times, steady)
    flags = other_flags | {
        *(["stalled"] if steady.n_stalled else []),
        *(["unstable"] if steady.is_unstable else []),
        # whoever asked for a count of epochs has what was asked for; its interval says how well the time is known
        *(["short"] if known.is_short and may_be_short else []),
        *(["trend"] if known.has_trend else []),
        *(["warmup"] if known.n_slow_first else []),
    }
    return {
        "steady_time_sec": factor * steady.sec,
        "n_timed": steady.n_timed,
        "n_stalled": steady.n_stalled,
        "flags": tuple(name for name in FLAGS if name in flags),
        "rel_spread": known.rel_spread,
        "rel_ci95": known.rel_ci95,
        "rel_trend": known.rel_trend,
    }


def _built(values: dict[str, Any], optional: dict[str, Any]) -> tuple[RunRecord, list[str]]:
    """The row of these values, less the optional ones that their column can't hold, each with its reason."""
    left_out: list[str] = []
    values, optional = ({name: _whole_text(value) for name, value in given.items()} for given in (values, optional))
    while True:
        try:
            record = RunRecord(**values, **optional)
            checked_line(record)
            return record, left_out
        except FieldError as error:
            if optional.get(error.column) in (None, ()):
                raise
            left_out.append(str(error))
            optional[error.column] = () if error.column == "energy_flags" else None


def _whole_text(value: Any) -> Any:
    """A text without halves of characters, which no file holds; anything else as it is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def signal_name(number: int) -> str:
    """A signal's name, e.g. `SIGKILL`; real-time signals have numbers alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure_of(
    spec: RunSpec, report: ChildReport, run_id: str, grid_id: str | None, problem: str | None = None
) -> FailureRecord:
    """The row of a run that did not finish: what the child said, else what its exit code, signal or output tell.

    `problem` is why a run that seemed to finish makes no row.
    """
    assert report.exit_code is not None
    number = -report.exit_code if report.exit_code < 0 else None
    output = report.output_tail.decode(errors="replace").strip()
    ending = f"exit code {report.exit_code}" if number is None else f"ended by {signal_name(number)}"
    message = f"{ending}; last output: {output.splitlines()[-1][:500]}" if output else ending
    if report.was_interrupted:
        status, message = "interrupted", "interrupted by the user"
    elif report.was_timeout:
        status, message = "timeout", f"stopped after {report.wall_sec:.0f} s"
    elif problem is not None or report.fault is not None:
        status, message = "crash", f"the measuring process can't be believed: {problem or report.fault}"
    elif report.failed is not None:
        status, message = str(report.failed.get("status")), str(report.failed.get("message") or ending)
        status = status if status in FAILURE_STATUSES else "crash"
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
        signal=signal_name(number) if number is not None else None,
        **asdict(spec.config),
        epochs=spec.most_epochs,
        epoch_times_json=tuple(report.epoch_times),
        wall_sec=report.wall_sec,
        message=_whole_text(" ".join(message.split())[:2000] or ending),
        spec_json=json.dumps(asdict(spec)),
    )
