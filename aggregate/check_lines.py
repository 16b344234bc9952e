"""Lines of a runs.csv read leniently: each by itself, every bad cell named, as much of the row kept as can be."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal, InvalidOperation

from aggregate.check_rules import Finding
from epochcast.cells import columns, csv_reader, parse_row
from epochcast.schema import PUBLISHED_RUN_COLUMNS, WARMUP_EPOCHS, RunRecord
from epochcast.stats import SteadyTime, steady_time

_CELL_ERROR = re.compile(r"column '(\w+)': expected (.*?), got (.*)", re.DOTALL)
_FIELD_ERROR = re.compile(r"\w+\.(\w+) must be (.*), got (.*?)\.?", re.DOTALL)
_OPTIONAL = {f.name for f in fields(RunRecord) if f.default is not MISSING} | {"tf_version", "test_acc"}
# fields that must agree: with the first already emptied, the second is to blame
_TIED = {"flags": "n_stalled", "window_steps": "timing_mode"}


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row that could be read, with its cells as written: the digits say how exactly a value is known."""

    file: str
    line: int
    cells: Mapping[str, str]
    record: RunRecord
    steady: SteadyTime

    def finding(self, rule: str, found: str, expected: str) -> Finding:
        record = self.record
        return Finding(
            rule, self.file, self.line, str(record.config), record.run_id or record.timestamp_utc, found, expected
        )

    def rounding(self, name: str) -> float:
        """Half a unit of the last digit that stands in the cell."""
        return half_unit(self.cells.get(name, ""))

    @property
    def epoch_rounding(self) -> float:
        """The largest rounding among the timed epochs, from those that are written with the most digits.

        One with fewer digits, significant ones and decimals, is one whose last zeros were not written.
        """
        texts = json.loads(self.cells["epoch_times_json"], parse_float=str, parse_int=str)[WARMUP_EPOCHS:]
        digits = [Decimal(text).as_tuple() for text in texts]
        most = max(len(number.digits) for number in digits)
        finest = min(number.exponent for number in digits)
        full = (text for text, n in zip(texts, digits, strict=True) if len(n.digits) == most or n.exponent == finest)
        return max(map(half_unit, full))


def half_unit(text: str) -> float:
    """Half a unit of the last digit of a number as written: 0.0005 of `1.133`; 0 of an empty cell."""
    try:
        exponent = Decimal(text).as_tuple().exponent
    except InvalidOperation:
        return 0.0
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def lines_of(raw: bytes) -> list[str]:
    """The lines of a file with their ends; bytes that are no UTF-8 become U+FFFD."""
    return list(io.StringIO(raw.decode("utf-8-sig", errors="replace"), newline=""))


def cells_of(line: str) -> list[str]:
    """The cells of one line; none of a blank line or one that is no CSV."""
    try:
        return next(csv_reader([line]), [])
    except csv.Error:
        return []


def read_header(line: str, file: str) -> tuple[list[str], list[Finding]]:
    """Names of the columns as they stand, and what is wrong with them. No names: nothing below can be read."""
    wanted = columns(RunRecord)
    published = wanted[:PUBLISHED_RUN_COLUMNS]
    expected = f"{','.join(published)} and then ours, in this order"
    if not line.strip():
        return [], [Finding("header", file, 1, None, None, "the file is empty", expected)]
    try:
        names = next(csv_reader([line]), [])
    except csv.Error as error:
        return [], [Finding("header", file, 1, None, None, f"not CSV: {error}", expected)]
    if names == wanted[: len(names)] and len(names) >= len(published):
        return names, []
    problems = []
    if unknown := [name for name in names if name not in wanted]:
        is_newer = names[: len(wanted)] == wanted
        problems.append(f"unknown: {', '.join(unknown)}"[:200] + (" (a newer Epochcast's?)" if is_newer else ""))
    if missing := [name for name in published if name not in names]:
        problems.append(f"missing: {', '.join(missing)}")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"twice: {', '.join(doubled)}")
    found = "; ".join(problems) or "columns in another order, or left out"
    is_readable = not missing and not doubled
    return (names if is_readable else []), [Finding("header", file, 1, None, None, found, expected)]


def read_row(line: str, number: int, names: Sequence[str], file: str) -> tuple[CheckedRow | None, list[Finding]]:
    """One row from its line, or None where too much of it is wrong, and what is wrong with it.

    A bad cell that may be empty is taken as empty, so that the rest of the row is still looked at.
    """
    try:
        texts = next(csv_reader([line]), [])
    except csv.Error as error:
        return None, [Finding("lines", file, number, None, None, f"{error}: {line[:60]!r}", "a row is one line of CSV")]
    if not texts:
        return None, []
    if len(texts) != len(names):
        found = f"{len(texts)} cells: {line[:60]!r}"
        return None, [Finding("lines", file, number, None, None, found, f"{len(names)} cells")]
    known = _known_columns()
    cells = {name: text for name, text in zip(names, texts, strict=True) if name in known}
    findings = []
    if "\ufffd" in line:
        findings.append(Finding("lines", file, number, None, None, "bytes that are no UTF-8 text", "UTF-8"))
    record, wrong = _read_record(cells, number, file)
    findings += wrong
    if record is None or len(record.epoch_times_json) <= WARMUP_EPOCHS:
        if record is not None:
            text = f"epochs {record.epochs}"
            findings.append(Finding("ranges", file, number, str(record.config), record.run_id, text, "at least 2"))
        return None, findings
    return CheckedRow(file, number, cells, record, steady_time(record.epoch_times_json)), findings


@functools.cache
def _known_columns() -> frozenset[str]:
    return frozenset(columns(RunRecord))


def _read_record(cells: Mapping[str, str], number: int, file: str) -> tuple[RunRecord | None, list[Finding]]:
    """The record of a row, with cells that are wrong and may be empty taken as empty; None where that is not enough."""
    cells = dict(cells)
    run_id = cells.get("run_id") or cells["timestamp_utc"] or None
    config = f"({cells['depth']},{cells['base_filters']},{cells['batch_size']})"[:60]
    findings: list[Finding] = []
    emptied: set[str] = set()
    is_lost = False
    while True:
        try:
            record = parse_row(list(cells.values()), list(cells), RunRecord)
            return (None if is_lost else record), findings
        except ValueError as error:
            text = str(error)
        rule = "types" if (match := _CELL_ERROR.fullmatch(text)) else "ranges"
        match = match or _FIELD_ERROR.fullmatch(text)
        if match is None:  # a message of another form: the whole row is the finding
            return None, [*findings, Finding(rule, file, number, config, run_id, text, "a row of a runs.csv")]
        name, expected, got = match.groups()
        if is_lost and rule == "ranges":
            return None, findings  # against a stand-in: nothing that stands in the file
        if cells.get(name) or name not in emptied:
            findings.append(Finding(rule, file, number, config, run_id, f"{name} {got}", f"{name} {expected}"))
        if not cells.get(name):
            name = _TIED.get(name, name)
        if name in _OPTIONAL and cells.get(name):
            cells[name] = ""
            emptied.add(name)
        elif rule == "types":
            cells[name] = _STAND_INS[name]  # to see what else is wrong in the row, which is lost
            is_lost = True
        else:
            return None, findings


_STAND_INS = dict.fromkeys(columns(RunRecord)[:PUBLISHED_RUN_COLUMNS], "1") | {
    "timestamp_utc": "2000-01-01",
    "epoch_times_json": "[1.0]",
}
