"""Silent drops in tables: the rows read against the file's lines, taken apart without the product's readers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from typing import Any

LINE_ENDS = re.compile(r"\r\n|\n|\r")


def lines_of(data: bytes) -> list[str] | None:
    """The lines of a text file, the header first, without their ends; None where it is no UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
        text = data[: error.start].decode("utf-8-sig")  # cut within a character, which may be told and left out
    lines = LINE_ENDS.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def cells_of(line: str) -> list[str] | None:
    """The cells of a line; None if it is no CSV line."""
    csv.field_size_limit(1 << 40)
    try:
        rows = list(csv.reader([line], strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else []


def is_blank(line: str) -> bool:
    """Whether a line holds nothing: no cell, or empty ones as spreadsheets leave them."""
    return not line.strip(' \t,;"')


def faults_of(data: bytes, records: Sequence[Any], said: str, originals: frozenset[str] = frozenset()) -> list[str]:
    """Lines that are no record and were not spoken of, and records that are no line, in words.

    Args:
        data: the file that was read.
        records: what was read of it, in file order.
        said: log, warnings and screen; a line is spoken of as `:NUMBER`.
        originals: lines of the sound table, of which a last one that was cut must not pass for a row.
    """
    lines = lines_of(data)
    if lines is None:
        return [f"{len(records)} rows read of a file that is no UTF-8"] if records else []
    if not lines:
        return ["rows out of an empty file"] if records else []
    header = cells_of(lines[0]) or []
    found, position = [], 0
    for number, line in enumerate(lines[1:], start=2):
        is_row = position < len(records) and is_same(header, cells_of(line), records[position])
        is_told = re.search(rf":{number}\b", said) is not None
        is_next = lines[number : number + 1] and position < len(records)
        if is_row:
            position += 1
        elif is_told and not (is_next and is_same(header, cells_of(lines[number]), records[position])):
            position += position < len(records)  # read with a cell changed, and said so
        elif not is_blank(line) and not is_told:
            found.append(f"line {number} dropped without a word: {line[:80]!r}")
    if position < len(records):
        found.append(f"{len(records) - position} rows read that are no lines, e.g. {str(records[position])[:80]}")
    last = lines[-1]
    if len(lines) > 1 and not data.endswith((b"\n", b"\r")) and position and records and last not in originals:
        is_cut = any(original.startswith(last) for original in originals)
        if is_cut and is_same(header, cells_of(last), records[-1]) and f":{len(lines)}" not in said:
            found.append("a row cut short passes for a whole one")
    return found[:3]


def is_same(header: Sequence[str], cells: Sequence[str] | None, record: Any) -> bool:
    """Whether a record says what the cells of a line say."""
    if not cells or len(cells) != len(header):
        return False
    try:
        return all(
            _is_value(text, getattr(record, name.strip()), name.endswith("_std"))
            for name, text in zip(header, cells, strict=True)
        )
    except AttributeError:
        return False


def _is_value(text: str, value: Any, is_std: bool = False) -> bool:
    if is_std and value is None and text in ("0", "0.0", "-0.0"):
        return True  # how published tables write the deviation of one run
    if value is None or text == "":
        return text == "" and value in (None, (), "")
    if isinstance(value, tuple):
        if all(isinstance(each, str) for each in value):
            return text.split(";") == list(value)
        try:
            return [float(each) for each in json.loads(text)] == list(value)
        except (ValueError, TypeError, RecursionError):
            return False
    if isinstance(value, str):
        return text == value
    try:
        return bool((int(text) if isinstance(value, int) and text.strip("+- ").isdecimal() else float(text)) == value)
    except ValueError:
        return False
