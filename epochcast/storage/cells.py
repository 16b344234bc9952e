"""Records as the cells and lines of a CSV file, and back: strict, and the same after a round trip."""

from __future__ import annotations

import csv
import io
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from epochcast.validation import LARGEST_WHOLE, FieldError

Record = TypeVar("Record")


class CellError(FieldError):
    """A cell that is not of its column's type."""


class _NotOfTypeError(ValueError):
    """What a cell should be and what it is; its column is known to the caller."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


def columns(kind: type[Any]) -> list[str]:
    """Column names of a record type, in file order."""
    return list(_column_types(kind))


def format_cell(value: Any) -> str:
    """A value as it stands in a file: None is empty, floats round-trip, numbers in a tuple are JSON, words `a;b`.

    A row is one line: line ends inside a text become spaces, so that a torn row can be told from a whole one.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
        return text if text.isascii() else text.encode(errors="backslashreplace").decode()  # halves of characters
    if isinstance(value, tuple):
        return ";".join(value) if all(isinstance(v, str) for v in value) else json.dumps(list(value))
    return repr(value) if isinstance(value, float) else str(value)


def shown(text: str) -> str:
    """A value as a message quotes it: escaped, its first 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _parse_number(text: str, number: type[int] | type[float]) -> int | float:
    try:
        if number is int and text.endswith(".0"):
            text = text[:-2]  # pandas writes whole numbers so where a column has gaps
        value = number(text)
    except ValueError:
        expected = "a whole number" if number is int else "a number"
        raise _NotOfTypeError(expected, shown(text)) from None
    largest = LARGEST_WHOLE if number is int else sys.float_info.max
    if not -largest <= value <= largest:
        raise _NotOfTypeError("a whole number below 2^63" if number is int else "a finite number", shown(text))
    return value


class _ColumnType(NamedTuple):
    """What a column's cells hold: `wanted` is str, int, float or, of a list, what it holds."""

    wanted: type[Any]
    is_list: bool
    is_optional: bool


def _column_types(kind: type[Any]) -> dict[str, _ColumnType]:
    """Every column of a record type, in file order; asked once, since type hints take 0.7 ms."""
    if (known := _known_types.get(kind)) is not None:
        return known
    hints = typing.get_type_hints(kind)
    types_of = {}
    for field in fields(kind):
        hint = hints[field.name]
        alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        (wanted,) = (a for a in alternatives if a is not type(None))
        is_list = typing.get_origin(wanted) is tuple
        item = typing.get_args(wanted)[0] if is_list else wanted
        types_of[field.name] = _ColumnType(item, is_list, type(None) in alternatives)
    _known_types[kind] = types_of
    return types_of


_known_types: dict[type[Any], dict[str, _ColumnType]] = {}


def _parse_cell(text: str, column: _ColumnType) -> Any:
    if column.is_list:
        return _parse_list(text, column.wanted)
    if text == "":
        if column.is_optional:
            return None
        raise _NotOfTypeError("a value", "an empty cell")
    return text if column.wanted is str else _parse_number(text, column.wanted)


def _parse_list(text: str, wanted: type[Any]) -> tuple[Any, ...]:
    if text == "":
        return ()  # no flags; no epoch that was timed before a run failed
    if wanted is str:
        return tuple(text.split(";"))
    try:
        values = json.loads(text)
        if not isinstance(values, list):
            raise ValueError
        return tuple(_parse_number(str(v), float) for v in values)
    except (ValueError, RecursionError):
        raise _NotOfTypeError("a JSON list of numbers", shown(text)) from None


def parse_row(cells: Sequence[str], header: Sequence[str], kind: type[Record]) -> Record:
    """One record from the cells of one line; columns that `header` lacks are unknown.

    Raises:
        CellError: if a cell is not of its column's type: names the column, what was expected and what was found.
        ValueError: if there are more or fewer cells than columns, or the record refuses a value.
    """
    if len(cells) != len(header):
        raise ValueError(f"expected {len(header)} columns, got {len(cells)}")
    types_of = _column_types(kind)
    values = {}
    for name, text in zip(header, cells, strict=True):
        try:
            values[name] = _parse_cell(text, types_of[name])
        except _NotOfTypeError as error:
            message = f"column {name!r}: expected {error.expected}, got {error.got}"
            raise CellError(message, name, error.expected, error.got) from None
    return kind(**values)


def parse_time(text: str) -> datetime:
    """A time stamp as a moment; published ones carry no offset and are UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def csv_reader(lines: Iterable[str]) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than the times of 7,000 epochs need
    return csv.reader(lines, strict=True)


def format_rows(records: Iterable[Any]) -> str:
    """Records as CSV lines, without a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for record in records:
        writer.writerow([format_cell(getattr(record, name)) for name in _column_types(type(record))])
    return text.getvalue()


def checked_line(record: Any) -> str:
    """A record as the line of its table, read back: what is written can be read, and says the same.

    Raises:
        CellError: if a value is not of its column's type, or would not come back: names the column.
    """
    cells = []
    for name, column in _column_types(type(record)).items():
        value = getattr(record, name)
        if value is None and column.is_optional:
            cells.append("")
            continue
        cells.append(format_cell(value))
        if not _comes_back(value, cells[-1], column):
            expected, got = _expected(cells[-1], column), shown(str(value))
            raise CellError(f"{type(record).__name__}.{name} must be {expected}, got {got}.", name, expected, got)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    line = text.getvalue()
    if next(csv_reader([line])) != cells:
        raise ValueError(f"{type(record).__name__}: the line {shown(line)} would not be read back as it was written.")
    return line


def _comes_back(value: Any, text: str, column: _ColumnType) -> bool:
    """Whether the cell of a value is read as that value; of text the line ends became spaces."""
    if type(value) is float and column.wanted is float and not column.is_list:
        return -sys.float_info.max <= value <= sys.float_info.max  # repr comes back to the last digit
    if type(value) is str and column.wanted is str and not column.is_list:
        return text != ""
    try:
        return bool(_parse_cell(text, column) == value)
    except _NotOfTypeError:
        return False


def _expected(text: str, column: _ColumnType) -> str:
    try:
        _parse_cell(text, column)
    except _NotOfTypeError as error:
        return error.expected
    return "a value that can be read back"


def header_line(kind: type[Any]) -> str:
    """The first line of a table of such records."""
    return ",".join(columns(kind)) + "\n"
