"""One row per configuration and conditions from the runs of a table: means of steady times, spreads, counts."""

from __future__ import annotations

import logging
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.steady_rows import READ_AGAIN, SteadyRows
from epochcast.gpus.device_names import with_one_name
from epochcast.output.text import percent, significant
from epochcast.paths import command_text, excluded_csv
from epochcast.schema import (
    FLAGS,
    TRAIN_N,
    AggRow,
    Conditions,
    Exclusion,
    RunConfig,
    RunRecord,
    to_json_dict,
)
from epochcast.stats import mean_and_std
from epochcast.steady_time import SteadyTime, spread_and_interval
from epochcast.storage.cells import columns
from epochcast.storage.tables import RunTable
from epochcast.workload.shape import count_params

logger = logging.getLogger(__name__)

REPORTED_FLAGS = [flag for flag in FLAGS if flag not in READ_AGAIN | {"diverged"}]  # these have their own lines
CHANCE_ACCURACY = 0.10  # ten classes, equally frequent
CHANCE_MARGIN = 0.005


@dataclass(frozen=True, slots=True)
class Stall:
    """One timed epoch (or window) slowed by something else, left out of its run's steady time; both in its seconds."""

    config: RunConfig
    run_id: str | None
    timestamp_utc: str
    what: str  # epoch | window
    epoch: int  # counted from 1
    sec: float
    steady_sec: float


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The aggregated rows and an account of every row read: `n_read` = `n_used` + `n_left_out` + `n_excluded`."""

    rows: list[AggRow]
    n_read: int
    n_used: int
    n_left_out: int  # flagged runs of configurations that have clean ones
    n_excluded: int
    stalls: list[Stall] = field(default_factory=list)
    unstable: list[RunRecord] = field(default_factory=list)  # in a mean only where there is no clean run
    diverged: list[RunRecord] = field(default_factory=list)
    flag_counts: Counter[str] = field(default_factory=Counter)  # runs by the flags that their rows bear


def is_diverged(record: RunRecord) -> bool:
    """Whether a run's loss became NaN, or its test accuracy is that of guessing."""
    return "diverged" in record.flags or is_chance(record.test_acc)


def has_sound_energy(record: RunRecord) -> bool:
    """Whether a run measured its board energy and nothing is wrong with it; an estimate is no measurement."""
    from epochcast.energy.reading import impossible_power  # not needed by those who only read averages

    is_measured = record.energy_j_per_epoch is not None and record.energy_estimated == 0
    return is_measured and not record.energy_flags and impossible_power(record) is None


def is_chance(acc: float | None) -> bool:
    """Whether an accuracy is that of guessing."""
    return acc is not None and abs(acc - CHANCE_ACCURACY) <= CHANCE_MARGIN


def _taking_back(record: RunRecord, path: Path) -> str:
    """How to take a run back for good."""
    if record.run_id is None:
        return "Correct the cell, or delete the line."
    # deleted it would be appended again, where its JSON is kept
    line, exclusions = f"{record.run_id},REASON,{record.timestamp_utc[:10]}", excluded_csv(path.absolute())
    header = "" if exclusions.exists() else f" below a first line {','.join(columns(Exclusion))}"
    return f"Correct the cell, or take the run back: write the line {line} into {exclusions}{header}."


def _one_row(
    config: RunConfig, conditions: Conditions, records: Sequence[RunRecord], path: Path, steady: SteadyRows
) -> tuple[AggRow, int]:
    """The row of one configuration and the number of its runs that entered it."""
    clean = [r for r in records if steady.is_clean(r)]
    used = clean or list(records)
    params = count_params(config)
    if wrong := next((r for r in used if r.params != params), None):
        raise ValueError(
            f"{path.absolute()}: the run of {wrong.timestamp_utc} says {wrong.params} parameters, {config} has "
            f"{params}: another network, or an edited cell. {_taking_back(wrong, path)}"
        )
    times = [steady.full_epoch_sec(r) for r in used]
    train_n = conditions.train_n or TRAIN_N
    compiled = [r for r in used if r.compile_cache != "warm"] or used  # a warm cache is not what a new run meets
    first_epochs = [_first_epoch_sec(r, steady.of(r).sec) for r in compiled]
    acc_epochs = max((r.epochs for r in used if r.test_acc is not None), default=None)
    accuracies = [r.test_acc for r in used if r.test_acc is not None and r.epochs == acc_epochs]
    avg_time_mean, avg_time_std = mean_and_std(times)
    thr_mean, thr_std = mean_and_std([train_n / t for t in times])
    acc_mean, acc_std = mean_and_std(accuracies)
    first_mean, first_std = mean_and_std(first_epochs)
    overhead_mean, overhead_std = mean_and_std([r.overhead_sec for r in used if r.overhead_sec is not None])
    assert avg_time_mean is not None and thr_mean is not None
    row = AggRow(
        **asdict(config),
        params=params,
        n=len(used),
        steps_per_epoch=config.steps_per_epoch(train_n),
        avg_time_mean=avg_time_mean,
        avg_time_std=avg_time_std,
        thr_mean=thr_mean,
        thr_std=thr_std,
        acc_mean=acc_mean,
        acc_std=acc_std,
        **asdict(conditions),
        n_stalled=sum(steady.of(r).n_stalled for r in used),
        n_flagged=len(records) - len(clean),
        first_epoch_sec_mean=first_mean,
        first_epoch_sec_std=first_std,
        overhead_sec_mean=overhead_mean,
        overhead_sec_std=overhead_std,
        acc_epochs=acc_epochs,
        n_diverged=sum(map(is_diverged, used)),
        **_energy_columns(used),
        peak_memory_bytes=max((r.peak_memory_bytes for r in used if r.peak_memory_bytes is not None), default=None),
        device_memory_bytes=max((r.device_memory_bytes for r in used if r.device_memory_bytes), default=None),
        rel_ci95=_own_interval(used, steady),
    )
    return row, len(used)


def _own_interval(used: Sequence[RunRecord], steady: SteadyRows) -> float | None:
    """The relative half-width of the 95 % interval of the runs' mean, by what the epochs of each run say of it.

    Runs are independent, so their half-widths add as squares; one of too few epochs says nothing. Computed and not
    read, so that it is of the steady time as it is judged now.
    """
    intervals = (spread_and_interval(r.epoch_times_json, steady.of(r))[1] for r in used)
    known = [half for half in intervals if half is not None]
    return math.hypot(*known) / len(known) if known else None


def _energy_columns(used: Sequence[RunRecord]) -> dict[str, Any]:
    """Board energy of the runs that measured it soundly."""
    sound = [r for r in used if has_sound_energy(r)]
    if not sound:
        return {"n_energy": 0 if any(r.energy_source is not None for r in used) else None}
    joules = [r.energy_j_per_epoch for r in sound if r.energy_j_per_epoch is not None]
    powers = [r.mean_power_w for r in sound if r.mean_power_w is not None]
    median_j = statistics.median(joules)
    return {
        "n_energy": len(sound),
        "energy_j_per_epoch_median": median_j,
        "energy_j_per_epoch_mad": statistics.median(abs(j - median_j) for j in joules) if len(joules) > 1 else None,
        "mean_power_w_median": statistics.median(powers) if powers else None,
    }


def _first_epoch_sec(record: RunRecord, steady_sec: float) -> float:
    """Seconds of the first epoch; of a windowed run, a full steady epoch and what the first window took on top."""
    first = record.epoch_times_json[0]
    if record.window_steps is None:
        return first
    return steady_sec * record.window_factor + max(first - steady_sec, 0.0)


def _stalls(record: RunRecord, steady: SteadyTime) -> list[Stall]:
    times = record.epoch_times_json
    what = "epoch" if record.window_steps is None else "window"
    return [
        Stall(record.config, record.run_id, record.timestamp_utc, what, index + 1, times[index], steady.sec)
        for index in steady.stalled_epochs
    ]


def aggregate(table: RunTable) -> Aggregation:
    """Group the runs of a table by configuration and conditions, in the order of configurations.

    Raises:
        ValueError: if there is no run, or one configuration has two parameter counts.
    """
    groups: dict[tuple[RunConfig, Conditions], list[RunRecord]] = defaultdict(list)
    rows = with_one_name(table.rows)
    for record in rows:
        groups[record.config, record.conditions].append(record)
    if not groups:
        raise ValueError(f"{table.path.absolute()} holds no finished run. Measure one: {command_text('run')}")
    steady = SteadyRows(rows)
    pairs = [
        _one_row(config, conditions, records, table.path, steady)
        for (config, conditions), records in sorted(groups.items(), key=lambda g: (g[0][0], repr(g[0][1])))
    ]
    n_used = sum(n for _, n in pairs)
    return Aggregation(
        rows=[row for row, _ in pairs],
        n_read=len(table.rows) + len(table.excluded),
        n_used=n_used,
        n_left_out=len(table.rows) - n_used,
        n_excluded=len(table.excluded),
        stalls=[stall for record in rows for stall in _stalls(record, steady.of(record))],
        unstable=[record for record in rows if steady.of(record).is_unstable],
        diverged=[record for record in table.rows if is_diverged(record)],
        flag_counts=Counter(flag for record in table.rows for flag in record.flags),
    )


# --- report ----------------------------------------------------------------------------------------------------------


def report_lines(result: Aggregation, noisiest: int = 5) -> list[str]:
    """What a person should know of an aggregation."""
    lines = [
        f"rows_read: {result.n_read} (used {result.n_used}, left out as flagged {result.n_left_out}, "
        f"excluded {result.n_excluded})",
        f"configurations: {len({row.config for row in result.rows})} in {len(result.rows)} rows, "
        f"{len({row.conditions for row in result.rows})} set(s) of conditions",
    ]
    repeated = [row for row in result.rows if row.avg_time_std is not None]
    lines.append(f"repeated: {len(repeated)} with 2 runs or more")
    by_noise = sorted(repeated, key=lambda row: (row.avg_time_std or 0) / row.avg_time_mean, reverse=True)
    for row in by_noise[:noisiest]:
        spread = percent((row.avg_time_std or 0) / row.avg_time_mean)
        lines.append(f"  noisiest: {row.config} n={row.n} {significant(row.avg_time_mean)} s, sd {spread}")
    lines.append(f"stalled_epochs: {len(result.stalls)}")
    for stall in result.stalls:
        lines.append(
            f"  stall: {stall.config} {stall.run_id or stall.timestamp_utc} {stall.what} {stall.epoch}: "
            f"{significant(stall.sec)} s where {significant(stall.steady_sec)} s is steady"
        )
    lines.append(f"unstable_runs: {len(result.unstable)} (a slow epoch may be a stall or noise: none excluded)")
    lines += [f"  unstable: {' '.join(str(r.config) for r in result.unstable)}"] if result.unstable else []
    counted = {flag: result.flag_counts[flag] for flag in REPORTED_FLAGS if result.flag_counts[flag]}
    if counted:
        lines.append("flagged_runs: " + ", ".join(f"{flag} {n}" for flag, n in counted.items()))
    if energies := [row for row in result.rows if row.n_energy]:
        lines.append(f"board_energy: of {sum(row.n_energy or 0 for row in energies)} runs of {len(energies)} rows")
    lines.append(f"diverged_runs: {len(result.diverged)} (loss NaN, or test accuracy about {CHANCE_ACCURACY:.2f})")
    configs = sorted({record.config for record in result.diverged})
    lines += [f"  diverged: {' '.join(str(c) for c in configs)}"] if configs else []
    return lines


def report_json(result: Aggregation) -> dict[str, Any]:
    return {
        "rows_read": result.n_read,
        "rows_used": result.n_used,
        "rows_left_out": result.n_left_out,
        "rows_excluded": result.n_excluded,
        "configurations": len({row.config for row in result.rows}),
        "stalls": [{**to_json_dict(stall), "config": asdict(stall.config)} for stall in result.stalls],
        "unstable": [record.run_id or record.timestamp_utc for record in result.unstable],
        "diverged": [record.run_id or record.timestamp_utc for record in result.diverged],
        "flags": dict(result.flag_counts),
        "rows": [to_json_dict(row) for row in result.rows],
    }
