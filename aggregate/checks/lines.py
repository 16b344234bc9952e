"""Lines of a runs.csv read leniently: each by itself, every bad cell named, as much of the row kept as can be."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation

from epochcast.aggregate.averages.steady_rows import RECORDED_FLAGS, SteadyRows
from epochcast.aggregate.checks.rules import Finding
from epochcast.gpus.device_names import with_one_name
from epochcast.schema import (
    AXIS_NAMES,
    PUBLISHED_RUN_COLUMNS,
    SCHEMA_VERSION,
    WARMUP_EPOCHS,
    NewerSchemaError,
    RunRecord,
)
from epochcast.steady_time import SteadyTime, steady_time
from epochcast.storage.cells import CellError, columns, parse_row
from epochcast.storage.table_lines import NOT_UTF8, cells_of, header_fault, lines_of, newer_columns
from epochcast.validation import FieldError

_OPTIONAL = {f.name for f in fields(RunRecord) if f.default is not MISSING} | {"tf_version", "test_acc"}
# fields that must agree: with the first already emptied, the second is to blame
_TIED = {"flags": "n_stalled", "window_steps": "timing_mode"}

LAST_PLACE = 308  # of a float
MOST_PLACES = 400  # more than any float has
FINEST_SHARE = 10  # one in so many cells says how finely a column is written
MOST_SHOWN = 400  # characters of what is wrong with a header
OF_EPOCHS = frozenset({"avg_time_sec", "steady_time_sec"})
ROUNDED = (  # columns that are compared with what others give
    "avg_time_sec",
    "images_per_sec",
    "steady_time_sec",
    "rel_spread",
    "rel_ci95",
    "overhead_sec",
    "wall_sec",
    "idle_sec",
    "energy_j_per_epoch",
    "energy_j_window",
    "energy_window_sec",
    "mean_power_w",
)


@dataclass(frozen=True, slots=True)
class Digits:
    """How finely a column is written: the last decimal place of its numbers and how many significant digits."""

    exponent: int  # of the last place: -3 where thousandths are written
    significant: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Digits | None:
        """Those of a column, by the finest tenth of its cells: not by a single odd one. None where none is a number."""
        numbers = [number for text in texts if (number := _decimal(text)) is not None]
        if not numbers:
            return None
        rank = max(1, len(numbers) // FINEST_SHARE) - 1
        exponents = sorted(exponent for _, _, exponent in numbers)
        return cls(exponents[rank], sorted((n for _, n, _ in numbers), reverse=True)[rank])

    def half_unit(self, text: str) -> float:
        """Half a unit of the last digit of a cell, zeros at the end that were not written counted as written.

        A program rounds to places or to significant digits; the coarser of the two is what is sure.
        """
        number = _decimal(text)
        if number is None:
            return 0.0
        first_place, _, exponent = number
        return _half_of_place(min(exponent, max(self.exponent, first_place - self.significant + 1)))


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row that could be read, with its cells as written: the digits say how exactly a value is known."""

    file: str
    line: int
    cells: Mapping[str, str]
    record: RunRecord
    steady: SteadyTime
    digits: Mapping[str, Digits] = field(default_factory=dict)  # of the table's columns; without them each cell's own

    @property
    def is_clean(self) -> bool:
        return RECORDED_FLAGS.isdisjoint(self.record.flags) and not self.steady.is_unstable

    def finding(self, rule: str, found: str, expected: str) -> Finding:
        record = self.record
        return Finding(
            rule, self.file, self.line, str(record.config), record.run_id or record.timestamp_utc, found, expected
        )

    def rounding(self, name: str) -> float:
        """Half a unit of the last digit of a cell, as its column is written."""
        text = self.cells.get(name, "")
        if (digits := self.digits.get(name)) is None:
            return half_unit(text)
        # a row may be written as coarsely as its own epochs are: tables of other digits were joined
        allowed = [digits.half_unit(text), self._epoch_digits.half_unit(text)]
        allowed += [self.epoch_rounding] if name in OF_EPOCHS else []
        return min(half_unit(text), max(allowed))

    @property
    def _epoch_digits(self) -> Digits:
        return _epochs_as_written(self.cells["epoch_times_json"])[0]

    @property
    def epoch_rounding(self) -> float:
        """The largest rounding among the timed epochs, from those that are written with the most digits."""
        return _epochs_as_written(self.cells["epoch_times_json"])[1]


@functools.lru_cache(maxsize=4)  # the rules of one row ask in turn; its epochs may be hundreds of thousands
def _epochs_as_written(text: str) -> tuple[Digits, float]:
    """The significant digits of a row's epochs, whose places say nothing of other columns; rounding of the timed ones.

    An epoch with fewer digits, significant ones and decimals, is one whose last zeros were not written.
    """
    texts = json.loads(text, parse_float=str, parse_int=str)
    most_significant = max(number[1] for number in map(_decimal, texts) if number is not None)
    timed = texts[WARMUP_EPOCHS:]
    digits = [Decimal(text).as_tuple() for text in timed]
    most = max(len(number.digits) for number in digits)
    finest = min(number.exponent for number in digits)
    full = (text for text, n in zip(timed, digits, strict=True) if len(n.digits) == most or n.exponent == finest)
    return Digits(-MOST_PLACES, most_significant), max(map(half_unit, full))


def _decimal(text: str) -> tuple[int, int, int] | None:
    """Of a number as written: place of its first digit, count of its digits, place of its last one."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    _, digits, exponent = number.as_tuple()
    return (number.adjusted(), len(digits), exponent) if isinstance(exponent, int) else None


def half_unit(text: str) -> float:
    """Half a unit of the last digit of a number as written: 0.0005 of `1.133`; 0 of an empty cell."""
    number = _decimal(text)
    return 0.0 if number is None else _half_of_place(number[2])


def _half_of_place(exponent: int) -> float:
    """Half a unit of a decimal place; of places that no finite number has, that of the last one."""
    return 0.5 * 10.0 ** min(exponent, LAST_PLACE)


def column_digits(rows: Sequence[Mapping[str, str]], names: Iterable[str]) -> dict[str, Digits]:
    """How finely each column of a table is written, where it holds numbers."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name in names:
            if text := row.get(name):
                texts[name].append(text)
    return {name: digits for name, of_column in texts.items() if (digits := Digits.of(of_column)) is not None}


def with_digits(rows: Sequence[CheckedRow]) -> list[CheckedRow]:
    """The rows of a table, each knowing how finely the table's columns are written."""
    digits = column_digits([row.cells for row in rows], ROUNDED)
    return [replace(row, digits=digits) for row in rows]


def with_steady(rows: Sequence[CheckedRow]) -> list[CheckedRow]:
    """The rows of a table, each judged with the noise of the others of its conditions."""
    named = with_one_name(row.record for row in rows)
    steady = SteadyRows(named)
    return [replace(row, steady=steady.of(record)) for row, record in zip(rows, named, strict=True)]


def lines_read(raw: bytes) -> list[str]:
    """The lines of a file with their ends; bytes that are no UTF-8 become U+FFFD."""
    return lines_of(raw.decode("utf-8-sig", errors="replace"))


def cells_read(line: str) -> list[str]:
    """The cells of one line; none of one that is no row or no CSV."""
    try:
        return cells_of(line)
    except ValueError:
        return []


def read_header(line: str, file: str) -> tuple[list[str], list[Finding]]:
    """Names of the columns as they stand, and what is wrong with them. No names: nothing below can be read."""
    wanted = columns(RunRecord)
    published = wanted[:PUBLISHED_RUN_COLUMNS]
    expected = f"{','.join(published)} and then ours, in this order"
    if not line.strip():
        return [], [Finding("header", file, 1, None, None, "the file is empty", expected)]
    try:
        names = cells_of(line)
    except ValueError as error:
        return [], [Finding("header", file, 1, None, None, f"not a CSV table: {error}", expected)]
    if newer := newer_columns(names, RunRecord):
        fault: str | None = f"a newer schema: unknown column {', '.join(newer[:MOST_SHOWN])}"
    else:
        fault = header_fault(names, line, RunRecord)
    if fault is None:
        return names, []
    is_readable = set(published) <= set(names) and len(set(names)) == len(names)
    found = fault if len(fault) <= MOST_SHOWN else f"{fault[:MOST_SHOWN]}..."
    return (names if is_readable else []), [Finding("header", file, 1, None, None, found, expected)]


def read_row(line: str, number: int, names: Sequence[str], file: str) -> tuple[CheckedRow | None, list[Finding]]:
    """One row from its line, or None where too much of it is wrong, and what is wrong with it.

    A bad cell that may be empty is taken as empty, so that the rest of the row is still looked at.
    """
    try:
        texts = cells_of(line)
    except ValueError as error:
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
        findings.append(Finding("lines", file, number, None, None, NOT_UTF8, "UTF-8"))
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
    config = f"({','.join(cells[name] for name in AXIS_NAMES)})"[:60]
    findings: list[Finding] = []
    emptied: set[str] = set()
    is_lost = False
    while True:
        rule = "ranges"
        try:
            record = parse_row(list(cells.values()), list(cells), RunRecord)
            return (None if is_lost else record), findings
        except NewerSchemaError:
            name, got = "schema_version", cells["schema_version"]
            expected = f"at most {SCHEMA_VERSION}: a newer Epochcast wrote this row"
        except FieldError as error:
            rule = "types" if isinstance(error, CellError) else "ranges"
            name, expected, got = error.column, error.expected, error.got
        except ValueError as error:  # of no one cell: the whole row is the finding
            return None, [*findings, Finding(rule, file, number, config, run_id, str(error), "a row of a runs.csv")]
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
