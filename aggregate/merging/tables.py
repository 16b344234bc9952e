"""Several tables of runs as one: no row is lost, none counted twice, and what disagrees is named instead of mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from epochcast.aggregate.averages.repeats import Disagreement, disagreements
from epochcast.aggregate.merging.new_files import write_new_files
from epochcast.aggregate.merging.runs import (
    MOST_LISTED,
    MergedRun,
    Renamed,
    distinct_runs,
    name_runs,
    names_of,
    names_of_excluded,
)
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import Exclusion, FailureRecord, RunRecord
from epochcast.storage.cells import format_rows, header_line, parse_time
from epochcast.storage.tables import read_table, read_table_if_any

Record = TypeVar("Record")


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
    renamed: list[Renamed]
    unnamed: list[Path] = field(default_factory=list)  # tables whose runs name no device, where there are several
    disagreeing: list[Disagreement] = field(default_factory=list)  # among those runs

    @property
    def warning(self) -> str | None:
        """What to say of runs of several tables that nothing tells apart."""
        if not self.unnamed:
            return None
        text = f"runs of {len(self.unnamed)} tables name no device, and count as one machine's"
        if self.disagreeing:
            shown = "; ".join(map(str, self.disagreeing[:3]))
            more = f" and {len(self.disagreeing) - 3} more" if len(self.disagreeing) > 3 else ""
            text += f", though they differ by more than noise: {shown}{more}"
        return f"{text}. If they are of different machines, keep the tables apart."


def merge(tables: Sequence[Path], out: Path) -> Merged:
    """Join tables of runs, with the failures.csv and excluded.csv beside each, into the new table `out`.

    A run is known by its run_id and its epochs, one without a run_id by its published columns. Two boxes may give the
    same run_id to different runs: the later one then gets a new run_id, by which the failures and exclusions of its
    table call it too. Rows of an older schema are lifted. Runs are ordered by time; what the tables hold twice stands
    once, and so does a run that an earlier merge renamed: merging the result again with a table of it adds nothing.

    Raises:
        FileExistsError: if `out`, or another file in place of one that would stand beside it, exists.
        ValueError: if two rows of one run disagree (all are listed), or a table can't be read; nothing is written then.
    """
    out = out.absolute()
    paths = [path.absolute() for path in tables]
    exclusions = [(path, row) for path in paths for row in _rows_if_any(excluded_csv(path), Exclusion)]
    failures = [(path, row) for path in paths for row in _rows_if_any(failures_csv(path), FailureRecord)]
    rows = [(path, row) for path in paths for row in read_table(path, RunRecord)]
    runs = distinct_runs(rows)
    renamed = name_runs(runs, {row.run_id for _, row in exclusions} | {row.run_id for _, row in failures})
    kept_failures = [_with_run_id(row, names_of(row.run_id, path, runs)[0]) for path, row in failures]
    kept_exclusions = [
        _with_run_id(row, name) for path, row in exclusions for name in names_of_excluded(row, path, runs)
    ]
    if unknown := sorted({row.run_id for path, row in exclusions if not names_of_excluded(row, path, runs)}):
        raise ValueError(
            "excluded.csv names runs that neither its table nor exactly one other holds: "
            f"{', '.join(unknown[:MOST_LISTED])}. Correct them first."
        )
    kept = [_with_run_id(run.row, run.run_id) for run in sorted(runs, key=lambda run: run.place)]
    n_read: dict[Path, int] = dict.fromkeys(paths, 0)
    for path, _ in rows:
        n_read[path] += 1
    result = Merged(
        out=out,
        n_read=n_read,
        runs=Joined(sorted(kept, key=_time), len(rows)),
        failures=Joined(sorted(dict.fromkeys(kept_failures), key=_time), len(failures)),
        exclusions=Joined(list(dict.fromkeys(kept_exclusions)), len(kept_exclusions)),
        n_without_run_id=sum(row.run_id is None for _, row in rows) - sum(row.run_id is None for row in kept),
        renamed=renamed,
        **_unnamed(runs),
    )
    # the runs last: a table without its exclusions would bring back what was taken back
    write_new_files(
        {
            excluded_csv(out): _content(result.exclusions, Exclusion) if result.exclusions.n_in else None,
            failures_csv(out): _content(result.failures, FailureRecord) if result.failures.n_in else None,
            out: _content(result.runs, RunRecord),
        }
    )
    return result


def _unnamed(runs: Sequence[MergedRun]) -> dict[str, Any]:
    """The runs that name no device, where they are of several tables."""
    own = [run for run in runs if run.row.device_name is None]
    tables = list(dict.fromkeys(run.path for run in own))
    if len(tables) < 2:
        return {}
    return {"unnamed": tables, "disagreeing": disagreements(run.row for run in own)}


def _content(joined: Joined, kind: type[Any]) -> bytes:
    return (header_line(kind) + format_rows(joined.rows)).encode()


def _rows_if_any(path: Path, kind: type[Record]) -> list[Record]:
    return read_table_if_any(path, kind)


def _time(row: RunRecord | FailureRecord) -> datetime:
    return parse_time(row.timestamp_utc)


def _with_run_id(row: Record, run_id: str | None) -> Record:
    return replace(row, run_id=run_id)  # type: ignore[type-var]  # all three records are dataclasses with a run_id


def report_lines(result: Merged) -> list[str]:
    lines = [f"read: {path} ({n} runs)" for path, n in result.n_read.items()]
    for what, joined in (("runs", result.runs), ("failures", result.failures), ("exclusions", result.exclusions)):
        if joined.n_in or what == "runs":
            lines.append(f"{what}: {joined.n_in} read = {len(joined.rows)} written + {joined.n_duplicates} duplicates")
    if result.n_without_run_id:
        lines.append(f"duplicates without a run_id, known by their cells: {result.n_without_run_id}")
    if result.renamed:
        lines.append(f"renamed: {len(result.renamed)} runs whose run_id an earlier run of another table has")
        lines += [f"  {r.run_id} of {r.table} -> {r.new_run_id}" for r in result.renamed[:MOST_LISTED]]
        more = len(result.renamed) - MOST_LISTED
        lines += [f"  ... {more} more: --json"] if more > 0 else []
    lines += [f"warning: {result.warning}"] if result.warning else []
    return [*lines, f"out: {result.out}"]


def report_json(result: Merged) -> dict[str, Any]:
    return {
        "out": str(result.out),
        "read": {str(path): n for path, n in result.n_read.items()},
        "duplicates_without_run_id": result.n_without_run_id,
        "warning": result.warning,
        "renamed": [{**asdict(renamed), "table": str(renamed.table)} for renamed in result.renamed],
        **{
            what: {"read": joined.n_in, "written": len(joined.rows), "duplicates": joined.n_duplicates}
            for what, joined in (
                ("runs", result.runs),
                ("failures", result.failures),
                ("exclusions", result.exclusions),
            )
        },
    }
