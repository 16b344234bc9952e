"""Records as the cells and lines of a CSV file, and back: strict, and the same after a round trip."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from epochcast.validation import FieldError

Record = TypeVar("Record")

LARGEST_WHOLE = 1 << 63  # more is no count of anything, and floats made of it may not be finite


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
    return [field.name for field in fields(kind)]


def format_cell(value: Any) -> str:
    """A value as it stands in a file: None is empty, floats round-trip, numbers in a tuple are JSON, words `a;b`.

    A row is one line: line ends inside a text become spaces, so that a torn row can be told from a whole one.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    if isinstance(value, tuple):
        return ";".join(value) if all(isinstance(v, str) for v in value) else json.dumps(list(value))
    return repr(value) if isinstance(value, float) else str(value)


def shown(text: str) -> str:
    """A cell as an error message shows it: quoted, its first 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _parse_number(text: str, number: type[int] | type[float]) -> int | float:
    try:
        if number is int and text.endswith(".0"):
            text = text[:-2]  # pandas writes whole numbers so where a column has gaps
        value = number(text)
        is_finite = math.isfinite(value)
    except (ValueError, OverflowError):
        expected = "a whole number" if number is int else "a number"
        raise _NotOfTypeError(expected, shown(text)) from None
    if not is_finite:
        raise _NotOfTypeError("a finite number", repr(text))
    if number is int and abs(value) >= LARGEST_WHOLE:
        raise _NotOfTypeError("a whole number below 2^63", shown(text))
    return value


def _parse_cell(text: str, hint: Any) -> Any:
    alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    is_optional = type(None) in alternatives
    (wanted,) = (a for a in alternatives if a is not type(None))
    if typing.get_origin(wanted) is tuple:
        if text == "":
            return ()  # no flags; no epoch that was timed before a run failed
        if typing.get_args(wanted)[0] is str:
            return tuple(text.split(";"))
        try:
            values = json.loads(text)
            if not isinstance(values, list):
                raise ValueError
            return tuple(_parse_number(str(v), float) for v in values)
        except (ValueError, RecursionError):
            raise _NotOfTypeError("a JSON list of numbers", shown(text)) from None
    if text == "":
        if is_optional:
            return None
        raise _NotOfTypeError("a value", "an empty cell")
    return text if wanted is str else _parse_number(text, wanted)


@functools.cache
def _type_hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)  # 0.7 ms: too slow to repeat for every row


def parse_row(cells: Sequence[str], header: Sequence[str], kind: type[Record]) -> Record:
    """One record from the cells of one line; columns that `header` lacks are unknown.

    Raises:
        CellError: if a cell is not of its column's type: names the column, what was expected and what was found.
        ValueError: if there are more or fewer cells than columns, or the record refuses a value.
    """
    if len(cells) != len(header):
        raise ValueError(f"expected {len(header)} columns, got {len(cells)}")
    hints = _type_hints(kind)  # type: ignore[arg-type]  # mypy does not know that classes are hashable
    values = {}
    for name, text in zip(header, cells, strict=True):
        try:
            values[name] = _parse_cell(text, hints[name])
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
        writer.writerow([format_cell(getattr(record, name)) for name in columns(type(record))])
    return text.getvalue()


def header_line(kind: type[Any]) -> str:
    """The first line of a table of such records."""
    return ",".join(columns(kind)) + "\n"
