"""Runs that are averaged as repeats of one configuration, yet differ by more than noise: of two machines, perhaps."""

from __future__ import annotations

import functools
import math
import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregate.runs_agg import is_clean
from epochcast.assumptions import assumption, device_kind_of
from epochcast.cli import significant
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord
from epochcast.stats import STALL_RATIO, steady_time

# of two runs 1.25 x apart, which within a run is a stall: 15.8 %; repeats on an A100 spread by 0.65 %, 1.15 % at most
LEAST_SPREAD = math.log(STALL_RATIO) / math.sqrt(2)
SEPARATION = 3.0  # where repeats are known to spread more, as on a shared processor (8.4 %), so many times as much
UNNAMED = "no row names its device: runs of two machines?"


def most_spread(conditions: Conditions) -> float:
    """The standard deviation of log times above which runs are no repeats of one configuration on one machine."""
    return _most_spread(device_kind_of(conditions.device_name))


@functools.cache
def _most_spread(kind: str) -> float:
    return max(LEAST_SPREAD, SEPARATION * assumption("repeat_sd_steady", kind).value)


def log_spread(seconds: Sequence[float]) -> float:
    """The sample standard deviation of the logs of some times; 0 of one."""
    return statistics.stdev(map(math.log, seconds)) if len(seconds) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Clean runs of one configuration under one set of conditions that are no repeats."""

    config: RunConfig
    conditions: Conditions
    seconds: list[float]  # steady, of each run

    def __str__(self) -> str:
        return f"{self.config} {significant(min(self.seconds))} to {significant(max(self.seconds))} s"


def disagreements(records: Iterable[RunRecord]) -> list[Disagreement]:
    """The configurations whose clean runs differ by more than noise."""
    groups: dict[tuple[RunConfig, Conditions], list[float]] = defaultdict(list)
    for record in records:
        if is_clean(record):
            seconds = steady_time(record.epoch_times_json).sec * record.window_factor
            groups[record.config, record.conditions].append(seconds)
    return [
        Disagreement(config, conditions, seconds)
        for (config, conditions), seconds in groups.items()
        if log_spread(seconds) > most_spread(conditions)
    ]


def spread_warning(rows: Sequence[AggRow], runs: Path | None = None) -> str | None:
    """What to say of averages over runs, `runs` if known, that are no repeats; None where there are none."""
    # the spread of two times over their mean is that of their logs, up to their third power
    wide = [r for r in rows if r.avg_time_std and r.avg_time_std / r.avg_time_mean > most_spread(r.conditions)]
    if not wide:
        return None
    worst = max(wide, key=lambda row: (row.avg_time_std or 0.0) / row.avg_time_mean)
    told = f"{worst.config} {significant(worst.avg_time_mean)} s, sd {significant(worst.avg_time_std or 0.0)} s"
    unnamed = f"; {UNNAMED}" if worst.conditions.device_name is None else ""
    named = "RUNS" if runs is None else shlex.quote(str(runs))
    return (
        f"{len(wide)} of {len(rows)} averages are of runs that differ by more than noise (worst: {told}){unnamed} "
        f"Find them: epochcast check --runs {named}. Keep tables of different machines apart, or take runs back in "
        "excluded.csv."
    )
