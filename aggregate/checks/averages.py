"""Whether a table of averages is that of the runs it lies beside, and, where it is not, what it is instead."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.source import Sources, read_with_record
from epochcast.aggregate.checks.lines import CheckedRow, Digits, column_digits, half_unit, lines_read
from epochcast.aggregate.checks.rows import has_own_params
from epochcast.aggregate.checks.rules import Finding
from epochcast.gpus.device_names import are_same_conditions
from epochcast.output.text import significant
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord
from epochcast.storage.cells import columns
from epochcast.storage.table_lines import cells_of, is_empty
from epochcast.storage.tables import RunTable, parse_table, table_bytes

RELATIVE_TOLERANCE = 1e-9  # standard deviations are differences of near numbers
SHOWN = 3  # lines named in a finding
MEANS = [name for name in columns(AggRow) if name.endswith(("_mean", "_std", "_median", "_mad"))]


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a table of averages with its cells as written."""

    number: int
    cells: dict[str, str]
    row: AggRow
    digits: Mapping[str, Digits]  # of the table's columns

    def agrees(self, name: str, expected: object) -> bool:
        """Whether a column holds a value, as far as its digits tell."""
        value = getattr(self.row, name)
        if self.row.n == 1 and name.endswith("_std") and not value:
            value = None  # a published table writes 0 for the deviation of one run
        if isinstance(value, float) and isinstance(expected, float):
            text = self.cells[name]
            rounding = self.digits[name].half_unit(text) if name in self.digits else half_unit(text)
            return abs(value - expected) <= rounding + RELATIVE_TOLERANCE * abs(expected)
        return bool(value == expected)

    def agrees_with(self, n: int, sec: float, throughput: float) -> bool:
        return self.row.n == n and self.agrees("avg_time_mean", sec) and self.agrees("thr_mean", throughput)


def cache_of(runs: Path) -> Path:
    """The table of averages that lies beside a table of runs by name."""
    return runs.with_name("runs_agg.csv" if runs.name == "runs.csv" else f"{runs.stem}_agg.csv")


def agg_findings(path: Path, runs: Path, rows: Sequence[CheckedRow], is_named: bool) -> Iterator[Finding]:
    """What a table of averages says that the runs do not; nothing where it is another table's and not named.

    One that bears a record of its source is a cache: it is out of date or not. Any other is compared cell by cell.
    """
    source, state = _cache_state(path, runs)
    if source == runs.resolve() and state:
        if state != "up to date":
            expected = f"made from {runs.name} as it is"
            yield Finding("cache", path.name, None, None, None, state, expected)
        return
    if source is not None and source != runs.resolve() and not is_named:
        return
    try:
        lines = _read_lines(path)
    except ValueError as error:
        yield Finding("aggregate", path.name, None, None, None, str(error), "a readable table of averages")
        return
    sound = [row for row in rows if has_own_params(row.record)]
    if sound:
        yield from _differences(path.name, lines, sound)


def _cache_state(path: Path, runs: Path) -> tuple[Path | None, str]:
    """The source that a table names, and how it stands to it: empty where it holds something else since."""
    try:
        record, data = read_with_record(path)
    except (OSError, ValueError):
        return None, ""
    if record is None or data is None:
        return None, ""
    source = record.source.resolve()
    if source != runs.resolve() or not record.is_ours(data):
        return source, ""  # another table's, or edited: to be compared
    is_current = record.is_current(data, Sources.read(runs))
    return source, "up to date" if is_current else "made from an earlier state of the runs or of excluded.csv"


def _read_lines(path: Path) -> list[_Line]:
    raw = table_bytes(path)
    rows = parse_table(path, raw, AggRow)
    texts = [(n, text) for n, text in enumerate(lines_read(raw), start=1) if not is_empty(text)]
    header = cells_of(texts[0][1])
    # a torn last line has no row
    cells = [dict(zip(header, cells_of(text), strict=True)) for _, text in texts[1 : len(rows) + 1]]
    digits = column_digits(cells, MEANS)
    return [
        _Line(number, of_line, row, digits) for (number, _), of_line, row in zip(texts[1:], cells, rows, strict=False)
    ]


def _differences(file: str, lines: Sequence[_Line], rows: Sequence[CheckedRow]) -> Iterator[Finding]:
    of_runs = aggregate(RunTable(Path(file), [row.record for row in rows], [])).rows
    expected: dict[RunConfig, list[AggRow]] = defaultdict(list)
    for agg in of_runs:
        expected[agg.config].append(agg)
    found: list[Finding] = []
    met: set[tuple[RunConfig, Conditions]] = set()
    for line in lines:
        # a published table knows no conditions: any will do
        is_blind = line.row.conditions == Conditions()
        candidates = [
            a for a in expected[line.row.config] if is_blind or are_same_conditions(a.conditions, line.row.conditions)
        ]
        if not candidates:
            found.append(_finding(file, line, "no such run", "a run of this configuration under these conditions"))
            continue
        differing = {id(a): [name for name in line.cells if not _agrees(line, name, a, is_blind)] for a in candidates}
        nearest = min(candidates, key=lambda a: len(differing[id(a)]))
        met.add((nearest.config, nearest.conditions))
        if names := differing[id(nearest)]:
            found.append(_explain(file, line, nearest, names, rows))
    for agg in of_runs:
        if (agg.config, agg.conditions) not in met:
            found.append(Finding("aggregate", file, None, str(agg.config), None, "no row", f"one of {agg.n} run(s)"))
    if found:
        n = len({f.line for f in found if f.line is not None})
        told = f"stale: {n} of {len(lines)} rows differ{_provenance(lines, rows)}"
        yield Finding("aggregate", file, None, None, None, told, f"means of the steady times of all {len(rows)} rows")
        yield from found


def _agrees(line: _Line, name: str, expected: AggRow, is_blind: bool) -> bool:
    if is_blind and name in Conditions.__slots__:
        return True
    return line.agrees(name, getattr(expected, name))


def _finding(file: str, line: _Line, found: str, expected: str) -> Finding:
    return Finding("aggregate", file, line.number, str(line.row.config), None, found, expected)


def _plain_means(records: Sequence[RunRecord]) -> tuple[int, float, float]:
    """n, seconds and images per second as the published aggregation made them: stalled epochs and all."""
    return (
        len(records),
        statistics.fmean(record.avg_time_sec for record in records),
        statistics.fmean(record.images_per_sec for record in records),
    )


def _provenance(lines: Sequence[_Line], rows: Sequence[CheckedRow]) -> str:
    """Which rows a table was made of, and how, where plain means of the first of them give all of it."""
    n = sum(line.row.n for line in lines)
    groups: dict[RunConfig, list[RunRecord]] = defaultdict(list)
    for row in rows[:n]:
        groups[row.record.config].append(row.record)
    if n > len(rows) or Counter(line.row.config for line in lines) != Counter(groups.keys()):
        return ""
    if all(line.agrees_with(*_plain_means(groups[line.row.config])) for line in lines):
        later = f"; made before line {rows[n].line} was appended" if n < len(rows) else ""
        return f". It is the plain mean, stalled epochs and all, of the first {n} of {len(rows)} rows{later}"
    return ""


def _explain(file: str, line: _Line, expected: AggRow, names: Sequence[str], rows: Sequence[CheckedRow]) -> Finding:
    """Why a row differs: runs appended since, stalled epochs in plain means, or numbers that no run gives."""
    n = line.row.n
    if {"n", "avg_time_mean", "thr_mean"}.isdisjoint(names):
        told, wanted = (", ".join(f"{name} {getattr(row, name)}" for name in names[:3]) for row in (line.row, expected))
        return _finding(file, line, told, wanted)
    own = [
        row
        for row in rows
        if row.record.config == expected.config and are_same_conditions(row.record.conditions, expected.conditions)
    ]
    made_of = own[:n]
    reasons = []
    if n < expected.n:
        reasons.append(f"without the run of line {', '.join(str(row.line) for row in own[n:][:SHOWN])}")
    if n > len(own):
        reasons.append(f"of more runs than the table holds, {len(own)}")
    elif line.agrees_with(*_plain_means([row.record for row in made_of])):
        if stalled := [str(row.line) for row in made_of if row.steady.n_stalled]:
            reasons.append(f"plain mean with the stalled epoch of line {', '.join(stalled[:SHOWN])}")
    elif n == expected.n:
        reasons.append("no mean of these runs")
    told = f"n {n}, {significant(line.row.avg_time_mean, 4)} s ({'; '.join(reasons)})"
    return _finding(file, line, told, f"n {expected.n}, {significant(expected.avg_time_mean, 4)} s")
