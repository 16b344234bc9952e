"""Several tables of runs as one: no row is lost, none counted twice, and what disagrees is named instead of mixed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from epochcast.cells import columns, format_rows, header_line
from epochcast.cli import add_json_flag, make_parser, print_home, run_command
from epochcast.files import write_new_file
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import PUBLISHED_RUN_COLUMNS, Exclusion, FailureRecord, RunRecord
from epochcast.tables import read_table

Record = TypeVar("Record")
MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of one kind from all tables: `n_in` = rows + `n_duplicates`."""

    rows: list[Any]
    n_in: int

    @property
    def n_duplicates(self) -> int:
        return self.n_in - len(self.rows)


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written, and where."""

    out: Path
    n_read: dict[Path, int]  # rows of runs by table
    runs: Joined
    failures: Joined
    exclusions: Joined
    n_without_run_id: int  # duplicates among rows without a run_id, known by their content


def merge(tables: Sequence[Path], out: Path) -> Merged:
    """Join tables of runs, with the failures.csv and excluded.csv beside each, into the new table `out`.

    A run is known by its run_id, one without by its published columns. Rows of an older schema are lifted. Runs are
    ordered by time; what the tables hold twice stands once.

    Raises:
        FileExistsError: if `out` or a file that would stand beside it exists.
        ValueError: if two rows of one run disagree (all are listed), or a table can't be read; nothing is written then.
    """
    out = out.absolute()
    for path in (out, failures_csv(out), excluded_csv(out)):
        if path.exists() or path.is_symlink():
            raise FileExistsError(f"{path} exists, and is not overwritten. Name another with --out, or move it away.")
    exclusions = [row for path in tables for row in _rows_if_any(excluded_csv(path), Exclusion)]
    failures = [row for path in tables for row in _rows_if_any(failures_csv(path), FailureRecord)]
    read = [(path.absolute(), read_table(path, RunRecord)) for path in tables]
    rows = [(path, row) for path, records in read for row in records]
    kept = _without_duplicates(rows)
    if unknown := sorted({e.run_id for e in exclusions} - {row.run_id for row in kept if row.run_id}):
        raise ValueError(
            f"excluded.csv names runs that no table holds: {', '.join(unknown[:MOST_LISTED])}. Correct them first."
        )
    n_nameless_in = sum(row.run_id is None for _, row in rows)
    n_read: dict[Path, int] = defaultdict(int)
    for path, records in read:
        n_read[path] += len(records)
    result = Merged(
        out=out,
        n_read=dict(n_read),
        runs=Joined(sorted(kept, key=_time), len(rows)),
        failures=Joined(sorted(dict.fromkeys(failures), key=_time), len(failures)),
        exclusions=Joined(list(dict.fromkeys(exclusions)), len(exclusions)),
        n_without_run_id=n_nameless_in - sum(row.run_id is None for row in kept),
    )
    # the runs last: a table without its exclusions would bring back what was taken back
    for path, joined, kind in (
        (excluded_csv(out), result.exclusions, Exclusion),
        (failures_csv(out), result.failures, FailureRecord),
        (out, result.runs, RunRecord),
    ):
        if joined.n_in or kind is RunRecord:
            write_new_file(path, (header_line(kind) + format_rows(joined.rows)).encode())
    return result


def _rows_if_any(path: Path, kind: type[Record]) -> list[Record]:
    return read_table(path, kind) if path.exists() else []


def _time(row: RunRecord | FailureRecord) -> datetime:
    time = datetime.fromisoformat(row.timestamp_utc)
    return time if time.tzinfo else time.replace(tzinfo=UTC)  # published times carry no offset


def _published(row: RunRecord) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in columns(RunRecord)[:PUBLISHED_RUN_COLUMNS])


def _disagreeing(row: RunRecord, other: RunRecord) -> list[str]:
    """Columns in which two rows of one run differ; what a row without a run_id leaves open differs from nothing."""
    names = columns(RunRecord)
    if row.run_id is None and other.run_id is not None:
        names = [name for name in names if getattr(row, name) not in (None, ())]
    return [name for name in names if getattr(row, name) != getattr(other, name)]


def _without_duplicates(rows: Sequence[tuple[Path, RunRecord]]) -> list[RunRecord]:
    """Each run once.

    Raises:
        ValueError: if two rows of one run disagree.
    """
    named = {_published(row): row.run_id for _, row in rows if row.run_id}
    kept: dict[Any, tuple[Path, RunRecord]] = {}
    conflicts: list[str] = []
    for path, row in sorted(rows, key=lambda pair: pair[1].run_id is None):  # a row that knows its run_id comes first
        key = row.run_id or named.get(_published(row)) or _published(row)
        first_path, first = kept.setdefault(key, (path, row))
        if differing := _disagreeing(row, first):
            name = f"run_id {first.run_id}" if first.run_id else f"the run without run_id of {row.timestamp_utc}"
            shown = "; ".join(f"{c}: {getattr(first, c)!r} and {getattr(row, c)!r}" for c in differing[:3])
            more = f"; and {', '.join(differing[3:])}" if len(differing) > 3 else ""
            conflicts.append(f"{name} ({first_path} and {path}): {shown}{more}")
    if conflicts:
        listed = "\n".join(f"  {conflict}" for conflict in conflicts[:MOST_LISTED])
        more = f"\n  ... {len(conflicts) - MOST_LISTED} more" if len(conflicts) > MOST_LISTED else ""
        raise ValueError(
            f"{len(conflicts)} rows disagree with another of the same run, nothing is written. Find out which is "
            f"right, and delete the other or give it a run_id of its own:\n{listed}{more}"
        )
    first_rows = {id(row) for _, row in kept.values()}
    return [row for _, row in rows if id(row) in first_rows]


# --- command ---------------------------------------------------------------------------------------------------------


def _report_lines(result: Merged) -> list[str]:
    lines = [f"read: {path} ({n} runs)" for path, n in result.n_read.items()]
    for what, joined in (("runs", result.runs), ("failures", result.failures), ("exclusions", result.exclusions)):
        if joined.n_in or what == "runs":
            lines.append(f"{what}: {joined.n_in} read = {len(joined.rows)} written + {joined.n_duplicates} duplicates")
    if result.n_without_run_id:
        lines.append(f"duplicates without a run_id, known by their cells: {result.n_without_run_id}")
    return [*lines, f"out: {result.out}"]


def _report_json(result: Merged) -> dict[str, Any]:
    return {
        "out": str(result.out),
        "read": {str(path): n for path, n in result.n_read.items()},
        "duplicates_without_run_id": result.n_without_run_id,
        **{
            what: {"read": joined.n_in, "written": len(joined.rows), "duplicates": joined.n_duplicates}
            for what, joined in (
                ("runs", result.runs),
                ("failures", result.failures),
                ("exclusions", result.exclusions),
            )
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast merge",
        "Join tables of runs, with their failures.csv and excluded.csv, into a new one. Nothing is overwritten.",
        "epochcast merge box1/runs.csv box2/runs.csv --out results/both/runs.csv",
    )
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE", help="two or more tables of runs")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="table to make; must not exist")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if len(arguments.tables) < 2:
        parser.error(f"expected two tables or more, got {len(arguments.tables)}")

    def work() -> int:
        print_home()
        result = merge(arguments.tables, arguments.out)
        print(json.dumps(_report_json(result)) if arguments.json else "\n".join(_report_lines(result)))
        return 0

    return run_command(work)
