"""Rules between the rows of a table: duplicates, order, conditions, and times that contradict their neighbours."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from epochcast.aggregate.averages.repeats import UNNAMED, disagreements
from epochcast.aggregate.checks.lines import CheckedRow
from epochcast.aggregate.checks.rules import Finding
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.device_names import with_one_name
from epochcast.output.text import significant
from epochcast.schema import AXES, Conditions, RunConfig
from epochcast.storage.cells import parse_time

MIN_DEGREES = 5  # of freedom, for a table's own spread of repeats to be known
SEPARATION = 3.0  # standard deviations of the difference of two runs
# towards which end of an axis an epoch takes longer, all else equal: more work (depth, filters), more steps (batch)
SLOWER = {axis.name: axis.slower for axis in AXES}
SHOWN = 3  # neighbours named in a finding


def table_findings(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    """What is wrong with, or odd about, the rows of a table taken together."""
    named = with_one_name(row.record for row in rows)
    rows = [replace(row, record=record) for row, record in zip(rows, named, strict=True)]
    yield from _timestamps(rows)
    yield from _conditions(rows)
    yield from _repeats(rows)
    yield from _monotone(rows)


def duplicate_findings(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    """Rows whose run stands in the table already."""
    by_id: dict[str, int] = {}
    by_run: dict[Hashable, int] = {}
    for row in rows:
        record = row.record
        if record.run_id is not None and (first := by_id.setdefault(record.run_id, row.line)) != row.line:
            yield row.finding("duplicates", f"run_id of line {first}", "a run_id of its own")
            continue
        run = (record.timestamp_utc, record.config, record.epoch_times_json)
        if (first := by_run.setdefault(run, row.line)) != row.line:
            yield row.finding("duplicates", f"time, configuration and epochs of line {first}", "another run")


def _timestamps(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    before: datetime | None = None
    for row in rows:
        time = parse_time(row.record.timestamp_utc)
        if before is not None and time < before:
            yield row.finding("timestamps", row.record.timestamp_utc, f"not before {before.isoformat()}, a line above")
        before = time


def _conditions(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    sets: dict[Conditions, list[CheckedRow]] = defaultdict(list)
    for row in rows:
        sets[row.record.conditions].append(row)
    if len(sets) < 2:
        return
    values = {conditions: asdict(conditions) for conditions in sets}
    differing = [name for name in SET_NAMES if len({v[name] for v in values.values()}) > 1]
    for conditions, members in sets.items():
        told = ",".join(f"{n}={'' if (v := values[conditions][n]) is None else v}" for n in differing)
        first = members[0]
        yield Finding(
            "conditions", first.file, first.line, None, None, f"{len(members)} rows from here on: {told}", "one set"
        )


SET_NAMES = tuple(asdict(Conditions()))


def _repeats(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    """Of runs that differ by more than noise, the one furthest from the others."""
    first: dict[tuple[RunConfig, Conditions], list[CheckedRow]] = defaultdict(list)
    for row in rows:
        if row.is_clean:
            first[row.record.config, row.record.conditions].append(row)
    for found in disagreements(row.record for row in rows):
        own = first[found.config, found.conditions]
        middle = statistics.median_low(found.seconds)
        at = max(range(len(own)), key=lambda i: abs(math.log(found.seconds[i] / middle)))
        others = [i for i in range(len(own)) if i != at]
        told = ", ".join(f"line {own[i].line} {significant(found.seconds[i])} s" for i in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        unnamed = f"; {UNNAMED}" if found.conditions.device_name is None else ""
        yield own[at].finding(
            "repeats",
            f"{significant(found.seconds[at])} s, but {told}{more}{unnamed}",
            found.expected,
        )


# --- times that contradict their neighbours ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A configuration that is slower (or faster) than others beyond noise, where it must not be."""

    config: RunConfig
    is_too_slow: bool
    others: list[RunConfig]


def tolerance_of(groups: Sequence[Sequence[float]], device_kind: str) -> float:
    """By how much of itself a time may contradict another: 3 sd of the difference of two runs.

    The sd is that of the table's own repeats (one group of times per configuration) where they know it, but no less
    than is assumed of a GPU, the steadier device; else what is assumed of such a device.
    """
    degrees = sum(len(group) - 1 for group in groups)
    is_known = degrees >= MIN_DEGREES
    sd = assumption("repeat_sd_steady", "gpu" if is_known else device_kind).value
    if is_known:
        logs = [[math.log(value) for value in group] for group in groups if len(group) > 1]
        sd = max(sd, math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in logs) / degrees))
    return 1 - math.exp(-SEPARATION * math.sqrt(2) * sd)


def contradictions(
    times: Mapping[RunConfig, float], tolerance: float, axes: Sequence[str] = tuple(SLOWER)
) -> list[Contradiction]:
    """Configurations whose times contradict those that differ from them in one axis alone.

    Along each axis, all else equal, an epoch must not get faster towards the end named in SLOWER, by more than
    `tolerance`. Of a contradicting pair that one is named which contradicts more of the table; the slower of two that
    do alike, as interference only adds time.
    """
    pairs: set[tuple[RunConfig, RunConfig]] = set()  # too slow, too fast
    for axis in axes:
        lines: dict[Hashable, list[RunConfig]] = defaultdict(list)
        for config in times:
            lines[tuple(getattr(config, name) for name in SLOWER if name != axis)].append(config)
        for line in lines.values():
            line.sort(key=lambda config: SLOWER[axis] * getattr(config, axis))
            pairs.update(_pairs_of_line(line, times, 1 - tolerance))
    against: dict[RunConfig, list[RunConfig]] = defaultdict(list)
    for slow, fast in pairs:
        against[slow].append(fast)
        against[fast].append(slow)
    left = Counter({config: len(others) for config, others in against.items()})
    named: list[Contradiction] = []
    explained: set[RunConfig] = set()
    for config in sorted(left, key=lambda c: (-left[c], -times[c], c)):
        if others := sorted(other for other in against[config] if other not in explained):
            named.append(Contradiction(config, (config, others[0]) in pairs, others))
            explained.add(config)
    return named


def _pairs_of_line(
    line: Sequence[RunConfig], times: Mapping[RunConfig, float], least: float
) -> Iterator[tuple[RunConfig, RunConfig]]:
    """For each that contradicts any on its line, ordered from fast to slow, the one that it contradicts most."""
    slowest = line[0]
    for config in line[1:]:
        if times[config] < least * times[slowest]:
            yield slowest, config
        slowest = max(slowest, config, key=times.__getitem__)
    fastest = line[-1]
    for config in reversed(line[:-1]):
        if times[fastest] < least * times[config]:
            yield config, fastest
        fastest = min(fastest, config, key=times.__getitem__)


def _monotone(rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    """On the means of steady times of undisturbed runs, one set of conditions at a time."""
    tables: dict[Conditions, dict[RunConfig, list[CheckedRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.is_clean:
            tables[row.record.conditions][row.record.config].append(row)
    seconds = {id(row): row.steady.sec * row.record.window_factor for row in rows}
    for conditions, table in tables.items():
        kind = device_kind_of(conditions.device_name)
        tolerance = tolerance_of([[seconds[id(row)] for row in runs] for runs in table.values()], kind)
        means = {config: statistics.fmean(seconds[id(row)] for row in runs) for config, runs in table.items()}
        # a processor's caches can make the smaller batch the faster one
        axes = [axis for axis in SLOWER if not (kind == "cpu" and axis == "batch_size")]
        for found in contradictions(means, tolerance, axes):
            sign = 1 if found.is_too_slow else -1
            row = max(table[found.config], key=lambda r: sign * seconds[id(r)])
            others = ", ".join(f"{other} {significant(means[other])} s" for other in found.others[:SHOWN])
            more = f" and {len(found.others) - SHOWN} more" if len(found.others) > SHOWN else ""
            word = "at most" if found.is_too_slow else "at least"
            yield row.finding(
                "monotone",
                f"{significant(means[found.config])} s, but {others}{more}",
                f"{word} theirs, within {100 * tolerance:.2g} %",
            )
