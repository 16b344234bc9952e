"""Published entries as tests use them: the shipped ones, and runs that have them as medians."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

from epochcast.mlperf.records import MlperfRecord, round_number
from epochcast.mlperf.regressor.entries import EntryMedian
from epochcast.mlperf.regressor.stored import ENTRIES, SHIPPED
from epochcast.storage.tables import read_table


@functools.cache
def shipped_entries() -> tuple[EntryMedian, ...]:
    """Return the entries that come with the program."""
    return tuple(read_table(SHIPPED / ENTRIES, EntryMedian))


@functools.cache
def few_entries() -> tuple[EntryMedian, ...]:
    """Return those of two benchmarks in three rounds: a fit of them takes a tenth of a second."""
    wanted = ("resnet", "retinanet")
    return tuple(
        each for each in shipped_entries() if each.benchmark in wanted and (3, 1) <= round_number(each.round) < (5, 0)
    )


def runs_of(entries: Iterable[EntryMedian]) -> list[MlperfRecord]:
    """Return three runs of each entry: its median and 1 % to either side."""
    return [
        MlperfRecord(
            **{name: getattr(entry, name) for name in ("round", "submitter", "system", "benchmark", "device")},
            n_accelerators=entry.n_accelerators,
            accelerator=entry.device,
            time_sec=entry.time_sec * factor,
            log=f"v{entry.round}/{entry.submitter}/results/{entry.system}/{entry.benchmark}/result_{number}.txt",
            sha256=hashlib.sha256(repr((entry, number)).encode()).hexdigest(),
            division="closed",
            status="success",
        )
        for entry in entries
        for number, factor in enumerate((0.99, 1.0, 1.01))
    ]
