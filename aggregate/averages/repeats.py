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

from epochcast.aggregate.averages.steady_rows import SteadyRows
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.device_names import with_one_name
from epochcast.output.text import significant
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord
from epochcast.steady_time import STALL_RATIO

# of two runs 1.25 x apart, which within a run is a stall: 15.8 %; repeats on an A100 spread by 0.65 %, 1.15 % at most
LEAST_SPREAD = math.log(STALL_RATIO) / math.sqrt(2)
SEPARATION = 3.0  # where repeats are known to spread more, as on a shared processor (19 %), so many times as much
LEAST_REPEATED = 4  # configurations, of which most must spread for a shift that they all share
UNNAMED = "no row names its device: runs of two machines?"


def most_spread(conditions: Conditions) -> float:
    """The standard deviation of log times above which runs are no repeats of one configuration on one machine."""
    return _most_spread(device_kind_of(conditions.device_name))


@functools.cache
def _most_spread(kind: str) -> float:
    return max(LEAST_SPREAD, SEPARATION * assumption("repeat_sd_steady", kind).value)


def limits(spreads: Iterable[tuple[Conditions, float]]) -> dict[Conditions, float]:
    """For each set of conditions the spread above which runs are no repeats, from that of each repeated configuration.

    One spread says little below that of a stall. But where no row names its device, and most configurations spread
    beyond what repeats on a GPU do, two machines are likely, however little they differ.
    """
    known: dict[Conditions, list[float]] = defaultdict(list)
    for conditions, spread in spreads:
        known[conditions].append(spread)
    shift = SEPARATION * assumption("repeat_sd_steady", "gpu").value
    return {
        conditions: shift
        if conditions.device_name is None
        and len(own) >= LEAST_REPEATED
        and 2 * sum(spread > shift for spread in own) > len(own)
        else most_spread(conditions)
        for conditions, own in known.items()
    }


def log_spread(seconds: Sequence[float]) -> float:
    """The sample standard deviation of the logs of some times; 0 of one."""
    return statistics.stdev(map(math.log, seconds)) if len(seconds) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Clean runs of one configuration under one set of conditions that are no repeats."""

    config: RunConfig
    conditions: Conditions
    seconds: list[float]  # steady, of each run
    limit: float  # of their spread

    @property
    def is_wide(self) -> bool:
        """Whether they spread too much together; else it is one alone that is far off."""
        return log_spread(self.seconds) > self.limit

    @property
    def expected(self) -> str:
        if self.is_wide:
            return f"times that spread by at most {100 * self.limit:.2g} %"
        return f"times within {100 * math.expm1(math.sqrt(2) * self.limit):.2g} % of their median"

    def __str__(self) -> str:
        return f"{self.config} {significant(min(self.seconds))} to {significant(max(self.seconds))} s"


def disagreements(records: Iterable[RunRecord]) -> list[Disagreement]:
    """The configurations whose clean runs differ by more than noise."""
    groups: dict[tuple[RunConfig, Conditions], list[float]] = defaultdict(list)
    records = with_one_name(records)
    steady = SteadyRows(records)
    for record in records:
        if steady.is_clean(record):
            groups[record.config, record.conditions].append(steady.full_epoch_sec(record))
    repeated = {key: seconds for key, seconds in groups.items() if len(seconds) > 1}
    most = limits((conditions, log_spread(seconds)) for (_, conditions), seconds in repeated.items())
    found = [
        Disagreement(config, conditions, seconds, most[conditions])
        for (config, conditions), seconds in repeated.items()
    ]
    return [runs for runs in found if runs.is_wide or _furthest(runs.seconds) > math.sqrt(2) * runs.limit]


def _furthest(seconds: Sequence[float]) -> float:
    """How far in log time the one that is furthest from the middle is: the spread of many hides one alone."""
    middle = statistics.median(seconds)
    return max(abs(math.log(sec / middle)) for sec in seconds)


def runs_warning(records: Iterable[RunRecord], runs: Path) -> str | None:
    """What to say of runs that are averaged though they are no repeats; None where there are none."""
    if not (found := disagreements(records)):
        return None
    shown = "; ".join(map(str, found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    is_unnamed = any(runs.conditions.device_name is None for runs in found)
    return f"runs that differ by more than noise are averaged: {shown}{_advice(is_unnamed, runs)}"


def spread_warning(rows: Sequence[AggRow], runs: Path | None = None) -> str | None:
    """What to say of averages over runs, `runs` if known, that are no repeats; None where there are none."""
    # the spread of two times over their mean is that of their logs, up to their third power
    spreads = [(row, row.avg_time_std / row.avg_time_mean) for row in rows if row.avg_time_std is not None]
    most = limits((row.conditions, spread) for row, spread in spreads)
    wide = [(row, spread) for row, spread in spreads if spread > most[row.conditions]]
    if not wide:
        return None
    worst, _ = max(wide, key=lambda pair: pair[1])
    told = f"{worst.config} {significant(worst.avg_time_mean)} s, sd {significant(worst.avg_time_std or 0.0)} s"
    return f"{len(wide)} of {len(rows)} averages are of runs that differ by more than noise (worst: {told})" + _advice(
        worst.conditions.device_name is None, runs
    )


def _advice(is_unnamed: bool, runs: Path | None) -> str:
    named = "RUNS" if runs is None else shlex.quote(str(runs))
    return (
        f"{f'; {UNNAMED}' if is_unnamed else '.'} Find them: epochcast check --runs {named}. Keep tables of different "
        "machines apart, or take runs back in excluded.csv."
    )
