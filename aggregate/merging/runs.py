"""Which rows of several tables are one run, and what it is called in a table of all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from epochcast.schema import PUBLISHED_RUN_COLUMNS, Exclusion, RunRecord
from epochcast.storage.cells import columns, parse_time

MOST_LISTED = 20
ADDED = re.compile(r"\.\d+$")  # what a merge, or a grid whose run was taken back, adds to a run_id


@dataclass(slots=True)
class MergedRun:
    """One run of the result: its first row, and by which run_ids which tables know it."""

    path: Path
    row: RunRecord
    place: int  # of its row in the tables read
    known_as: dict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))  # in the order met
    run_id: str | None = None  # in the result


def _time(row: RunRecord) -> datetime:
    return parse_time(row.timestamp_utc)


def _published(row: RunRecord) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in columns(RunRecord)[:PUBLISHED_RUN_COLUMNS])


def _base(run_id: str) -> str:
    """A run_id without what a merge adds to it."""
    return ADDED.sub("", run_id)


def _disagreeing(row: RunRecord, other: RunRecord) -> list[str]:
    """Columns in which two rows of one run differ; what a row without a run_id leaves open differs from nothing."""
    names = columns(RunRecord)
    if row.run_id is None and other.run_id is not None:
        names = [name for name in names if getattr(row, name) not in (None, ())]
    elif row.run_id != other.run_id:
        names = [name for name in names if name != "run_id"]  # renamed by an earlier merge
    return [name for name in names if getattr(row, name) != getattr(other, name)]


def distinct_runs(rows: Sequence[tuple[Path, RunRecord]]) -> list[MergedRun]:
    """Each run once.

    Raises:
        ValueError: if two rows of one run disagree.
    """
    runs: list[MergedRun] = []
    by_base: dict[str, list[MergedRun]] = defaultdict(list)
    by_cells: dict[Any, MergedRun] = {}
    conflicts: list[str] = []
    # a row that knows its run_id comes first
    for place, (path, row) in sorted(enumerate(rows), key=lambda item: item[1][1].run_id is None):
        if row.run_id is None:
            run = by_cells.get(_published(row))
        else:
            run = next((run for run in by_base[_base(row.run_id)] if _is_one_run(row, run)), None)
        if run is None:
            run = MergedRun(path, row, place)
            runs.append(run)
            by_cells[_published(row)] = run
            if row.run_id is not None:
                by_base[_base(row.run_id)].append(run)
        elif differing := _disagreeing(row, run.row):
            conflicts.append(_conflict_text(path, row, run, differing))
        if row.run_id is not None:
            run.known_as[row.run_id].add(path)
    if conflicts:
        listed = "\n".join(f"  {conflict}" for conflict in conflicts[:MOST_LISTED])
        more = f"\n  ... {len(conflicts) - MOST_LISTED} more" if len(conflicts) > MOST_LISTED else ""
        raise ValueError(
            f"{len(conflicts)} rows disagree with another of the same run, nothing is written. Find out which is "
            f"right, and delete the other or give it a run_id of its own:\n{listed}{more}"
        )
    return runs


def _is_one_run(row: RunRecord, run: MergedRun) -> bool:
    """Whether a row is that of a run whose run_id begins alike: it has all its epochs, or its time and some of them.

    Two boxes may well end a run in the same second, but no epoch of theirs takes the same time to the last digit.
    """
    times, others = row.epoch_times_json, run.row.epoch_times_json
    if times == others:
        return True
    return _time(row) == _time(run.row) and any(a == b for a, b in zip(times, others, strict=False))


def _conflict_text(path: Path, row: RunRecord, run: MergedRun, differing: Sequence[str]) -> str:
    first = run.row
    name = f"run_id {first.run_id}" if first.run_id else f"the run without run_id of {row.timestamp_utc}"
    shown = "; ".join(f"{c}: {getattr(first, c)!r} and {getattr(row, c)!r}" for c in differing[:3])
    more = f"; and {', '.join(differing[3:])}" if len(differing) > 3 else ""
    return f"{name} ({run.path} and {path}): {shown}{more}"


# --- what they are called --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renamed:
    """A run whose run_id another, earlier one has too."""

    table: Path
    run_id: str
    new_run_id: str


def name_runs(runs: Sequence[MergedRun], taken: Collection[str]) -> list[Renamed]:
    """Give each run its run_id in the result: one that it has, or, where earlier runs have those, a new one.

    One with several keeps that of an earlier merge. Nothing depends on the order of the tables.
    """
    taken = {*taken, *(name for run in runs for name in run.known_as)}
    named: set[str] = set()
    without: list[MergedRun] = []
    for run in sorted(runs, key=lambda run: (_time(run.row), run.row.epoch_times_json)):
        if free := run.known_as.keys() - named:
            run.run_id = min(free, key=lambda name: (name == _base(name), len(name), name))
            named.add(run.run_id)
        elif run.known_as:
            without.append(run)
    renamed = []
    for run in without:
        old = min(run.known_as)
        run.run_id = next(name for n in count(2) if (name := f"{_base(old)}.{n}") not in taken)
        taken.add(run.run_id)
        renamed.append(Renamed(run.path, old, run.run_id))
    return renamed


def names_of(run_id: str, path: Path, runs: Sequence[MergedRun]) -> list[str]:
    """What the runs of a table with this run_id are called in the result; itself where the table holds none."""
    return [r.run_id for r in runs if r.run_id and path in r.known_as.get(run_id, ())] or [run_id]


def names_of_excluded(exclusion: Exclusion, path: Path, runs: Sequence[MergedRun]) -> list[str]:
    """What the runs that a table takes back are called in the result.

    None where no table holds such a run, or the table itself does not and several others do.
    """
    asked = exclusion.run_id
    if any(path in run.known_as.get(asked, ()) for run in runs):
        return names_of(asked, path, runs)
    others = [run.run_id for run in runs if run.run_id and asked in run.known_as]
    return others if len(others) == 1 else []
