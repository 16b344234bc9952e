"""What comes of a run as a row: of runs.csv if it finished, else of failures.csv."""

from __future__ import annotations

import json
import signal
import statistics
from dataclasses import asdict

from collect.child import ChildReport
from collect.measure import is_out_of_memory
from collect.watch import Beside
from epochcast.environment import load_average, utc_now
from epochcast.precision import precision
from epochcast.schema import FLAGS, SCHEMA_VERSION, WARMUP_EPOCHS, FailureRecord, RunRecord, RunSpec
from epochcast.stats import steady_time

PER_ENTRY_COLUMNS = ("energy_j_per_epoch", "energy_lo_j", "energy_hi_j", "energy_net_j_per_epoch")  # window -> epoch


def record_of(spec: RunSpec, report: ChildReport, run_id: str, grid_id: str | None, beside: Beside) -> RunRecord:
    """The row of a run that finished."""
    assert report.done is not None
    started = {name: value for name, value in report.started.items() if name != "data_origin"}
    times = tuple(report.epoch_times)
    steady, known = steady_time(times), precision(times)
    train_n = started["train_n"]
    factor = spec.config.steps_per_epoch(train_n) / spec.window_steps if spec.window_steps else 1.0
    avg_time_sec = factor * statistics.fmean(times[WARMUP_EPOCHS:])
    flags = {
        *(["stalled"] if steady.n_stalled else []),
        *(["unstable"] if steady.is_unstable else []),
        *(["short"] if known.is_short else []),
        *(["trend"] if known.has_trend else []),
        *(["warmup"] if known.n_slow_first else []),
        *(["diverged"] if report.has_diverged else []),
        *beside.flags,
    }
    columns = dict(beside.columns)
    for name in PER_ENTRY_COLUMNS:
        if columns.get(name) is not None:
            columns[name] *= factor
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
        overhead_sec=report.wall_sec - sum(times) - (columns.get("idle_sec") or 0.0),
        cpu_time_sec=report.cpu_time_sec,
        load_avg=load_average(),
        flags=tuple(name for name in FLAGS if name in flags),
        rel_spread=known.rel_spread,
        rel_ci95=known.rel_ci95,
        rel_trend=known.rel_trend,
        stop_reason=report.done["stop_reason"],
        compile_cache=report.done.get("compile_cache"),
        peak_memory_bytes=report.done["peak_memory_bytes"],
        **columns,
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
        epochs=spec.most_epochs,
        epoch_times_json=tuple(report.epoch_times),
        wall_sec=report.wall_sec,
        message=" ".join(message.split()),
        spec_json=json.dumps(asdict(spec)),
    )
