"""Medians of submissions: the rows that times are learned from, one for each entry."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from epochcast.facts.tables import accelerators
from epochcast.mlperf.records import Entry, MlperfRecord, round_number
from epochcast.validation import require, require_positive, require_sec

Configuration = tuple[str, str, int]  # benchmark, device, count


@dataclass(frozen=True, slots=True)
class Workload:
    """A training whose time is asked for."""

    benchmark: str  # as `MlperfRecord.benchmark`
    device: str  # name in the facts
    n_accelerators: int
    round: str | None = None  # None: as the newest round that was learned from

    def __post_init__(self) -> None:
        require_positive(self, "n_accelerators")

    @property
    def configuration(self) -> Configuration:
        return self.benchmark, self.device, self.n_accelerators


@dataclass(frozen=True, slots=True)
class EntryMedian:
    """The successful runs of one entry of the closed division: a row of entries.csv."""

    round: str
    submitter: str
    system: str
    benchmark: str
    device: str  # name in the facts
    n_accelerators: int
    time_sec: float  # median of the runs
    runs: int

    def __post_init__(self) -> None:
        require(self.device in _device_names(), self, "device", "a name of epochcast facts gpus")
        require_positive(self, "n_accelerators", "runs")
        require_sec(self, "time_sec")
        round_number(self.round)

    @property
    def entry(self) -> Entry:
        """What its runs repeat, as `MlperfRecord.entry`."""
        return self.round, self.submitter, self.system, self.benchmark

    @property
    def workload(self) -> Workload:
        return Workload(self.benchmark, self.device, self.n_accelerators, self.round)


@dataclass(frozen=True, slots=True)
class Medians:
    """The entries of a table of records, and how many records are not in them."""

    entries: tuple[EntryMedian, ...]  # by round, submitter, system and benchmark
    excluded: dict[str, int]  # records by reason


def entry_medians(records: Iterable[MlperfRecord]) -> Medians:
    """Return the medians of all entries that can be learned from."""
    runs: dict[tuple[Entry, str, int], list[float]] = defaultdict(list)
    excluded: Counter[str] = Counter()
    for record in records:
        reason = why_excluded(record)
        if reason is not None:
            excluded[reason] += 1
        elif record.device is not None and record.n_accelerators is not None:
            runs[record.entry, record.device, record.n_accelerators].append(record.time_sec)
    entries = [
        EntryMedian(*entry, device, n, statistics.median(times), len(times))
        for (entry, device, n), times in runs.items()
    ]
    entries.sort(key=lambda each: (round_number(each.round), each.entry, each.device, each.n_accelerators))
    return Medians(tuple(entries), dict(excluded.most_common()))


def why_excluded(record: MlperfRecord) -> str | None:
    """Return why a record can't be learned from; None where it can."""
    if not record.is_usable:
        return "not successful, or on an unknown number of accelerators"
    if record.division != "closed":
        return "not of the closed division"
    return None if record.device in _device_names() else "on a device that the facts do not have, such as a processor"


def _device_names() -> set[str]:
    return {each.name for each in accelerators()}


def family_of(device: str) -> str:
    """Return the generation of a device: `hopper` of an H100, `tpu` of TPUs."""
    return next(each.family for each in accelerators() if each.name == device).split("_")[0]
