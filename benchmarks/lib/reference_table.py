"""The reference A100 measurements as the benchmarks read them."""

from __future__ import annotations

import statistics
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.table import load_agg
from epochcast.collect.grid.config_lists import read_configs
from epochcast.paths import pretrained_dir, reference_data
from epochcast.schema import AggRow, RunConfig, RunRecord
from epochcast.storage.tables import read_runs

LONGEST_GAP = 3.0  # times the median: between runs further apart somebody was away


def steady_rows() -> list[AggRow]:
    """One row for each configuration with its steady time, stalls left out, and the overhead that time stamps tell."""
    table = read_runs(reference_data() / "a100" / "runs.csv")
    overhead = gap_overheads(table.rows)
    return [
        replace(row, overhead_sec_mean=statistics.fmean(own) if (own := overhead.get(row.config)) else None)
        for row in aggregate(table).rows
    ]


def published_rows() -> list[AggRow]:
    """The averages as published: one stalled epoch in them, no first epochs, no overhead."""
    return load_agg(reference_data() / "a100" / "runs_agg.csv").rows


def gap_overheads(records: list[RunRecord]) -> dict[RunConfig, list[float]]:
    """Seconds between two runs that were started back to back, less the second one's epochs, by configuration.

    The published table has no overhead; its time stamps, taken at the end of each run to whole seconds, bound it.
    """
    ordered = sorted(records, key=lambda r: r.timestamp_utc)
    ends = [datetime.fromisoformat(r.timestamp_utc) for r in ordered]
    gaps = [
        (b - a).total_seconds() - sum(r.epoch_times_json) for (a, b), r in zip(pairwise(ends), ordered[1:], strict=True)
    ]
    longest = LONGEST_GAP * statistics.median(gaps)
    found: dict[RunConfig, list[float]] = {}
    for gap, record in zip(gaps, ordered[1:], strict=True):
        if 0 < gap <= longest:
            found.setdefault(record.config, []).append(gap)
    return found


def held_out() -> list[RunConfig]:
    """The five configurations that the shipped model and every claim about unseen ones leave out."""
    return read_configs(pretrained_dir() / "a100_held_out.csv")
