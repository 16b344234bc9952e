"""Lines, cells and header of a CSV table: one reading for every command, with the cause named where it fails."""

from __future__ import annotations

import csv
import difflib
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochcast.schema import PUBLISHED_AGG_COLUMNS, PUBLISHED_RUN_COLUMNS, AggRow, NewerSchemaError, RunRecord
from epochcast.storage.cells import columns, csv_reader, shown
from epochcast.storage.file_kinds import GZIP, TABLE_KINDS, kind_of
from epochcast.storage.files import decode_text
from epochcast.text_sinks import one_line

CR_ALONE = "lines end in CR alone, or a cell holds one: save the file with LF line ends"
MOST_NAMED = 5  # columns in a message: a file that is no table may have a million
LONGEST_NAME = 60
NOT_UTF8 = "not UTF-8 text"
OPEN_QUOTE = "a quote is left open: a row is one line"
_PUBLISHED_COLUMNS = {RunRecord: PUBLISHED_RUN_COLUMNS, AggRow: PUBLISHED_AGG_COLUMNS}
_EMPTY = ' ,"\t\r\n'  # all that a row of empty cells is written with
SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends: LF, or CR and LF; no other character ends a line."""
    lines = text.split("\n")
    last = lines.pop()
    return [*(line + "\n" for line in lines), *([last] if last else [])]


def decode_table(path: Path, raw: bytes) -> str:
    """The text of a table.

    Raises:
        ValueError: if it is no UTF-8 text; a character that a crash cut short at the very end is left out instead.
    """
    refuse_packed(path, raw)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return error.object[: error.start].decode()
        return decode_text(raw, path)  # says what is wrong


def refuse_packed(path: Path, raw: bytes) -> None:
    """Raise a ValueError that says so where a table is packed by gzip."""
    if raw.startswith(GZIP):
        raise ValueError(f"{path}: a gzip file, not a table. Unpack it: gunzip -c {shlex.quote(str(path))} > NEW.csv")


def cells_of(line: str) -> list[str]:
    """The cells of one line; none of one that is no row.

    Raises:
        ValueError: if it is no line of CSV.
    """
    if is_empty(line):
        return []
    if "\r" in line and "\r" in line.rstrip("\r\n"):
        raise ValueError(CR_ALONE)
    try:
        return next(csv_reader([line]), [])
    except csv.Error as error:
        raise ValueError(OPEN_QUOTE if "unexpected end" in str(error) else f"{error}: a row is one line") from None


def is_empty(line: str) -> bool:
    """Whether a line is no row: blank, or empty cells alone, as spreadsheets leave them."""
    return not line.strip(_EMPTY)


def header_of(path: Path, line: str, kind: type[Any]) -> list[str]:
    """The columns of a table of such records, from its first line.

    Raises:
        NewerSchemaError: if a newer version wrote it.
        ValueError: names what is wrong with it.
    """
    try:
        header = cells_of(line)
    except ValueError as error:
        raise ValueError(f"{path}:1: not a CSV table ({error}): the first line is {shown(line)}.") from None
    wanted = columns(kind)
    if header == wanted:
        return header
    if newer := newer_columns(header, kind):
        raise NewerSchemaError(
            f"{path}:1: a newer schema: this version does not know column {_some(newer)}. "
            "Update Epochcast, or use another file."
        )
    if (fault := header_fault(header, line, kind)) is not None:
        raise ValueError(
            f"{path}:1: not a table of {kind.__name__} rows: {fault}. Expected {least_header(kind)} in this order."
        )
    return header


def least_header(kind: type[Any]) -> str:
    """The columns that a table of such records has at least, as its header names them; `...` stands for the rest."""
    wanted, least = columns(kind), _least(kind)
    return ",".join(wanted[:least]) + ("" if least == len(wanted) else ",...")


def _some(names: Sequence[str]) -> str:
    """Names in a message: the first of many."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(one_line(name[:LONGEST_NAME]) for name in names[:MOST_NAMED]) + more


def newer_columns(header: Sequence[str], kind: type[Any]) -> list[str]:
    """Columns that a newer version has added after all of ours."""
    wanted = columns(kind)
    newer = list(header[len(wanted) :])
    is_new = list(header[: len(wanted)]) == wanted and len(set(header)) == len(header)
    return newer if is_new else []


def header_fault(header: Sequence[str], line: str, kind: type[Any]) -> str | None:
    """What is wrong with a header, in words; None of all columns, or of a first part that an older schema wrote."""
    wanted, least = columns(kind), _least(kind)
    known = frozenset(wanted)
    if list(header) == wanted[: len(header)] and len(header) >= least:
        return None
    if not header:
        return "the first line is empty"
    if "\0" in line:
        return "UTF-16 text, or no text at all (it holds NUL bytes); save the file as UTF-8"
    for separator, name in SEPARATORS.items():
        if len({cell.strip(' "\r\n') for cell in line.split(separator)}.intersection(wanted)) > 1:
            return f"the columns are separated by {name}, expected ','"
    standing = kind_of(line.encode(errors="replace")).words
    if standing in TABLE_KINDS.values() and standing != TABLE_KINDS.get(kind.__name__):
        return f"it is {standing}"
    if (bare := [name.strip() for name in header]) != list(header) and header_fault(bare, ",".join(bare), kind) is None:
        return "spaces stand beside the commas: write the names without them"
    counts = Counter(header)
    faults = []
    unknown = [name for name in header if name not in known]
    for name in unknown[:MOST_NAMED]:
        close = difflib.get_close_matches(name[:LONGEST_NAME], wanted, n=1)
        faults.append(f"unknown column {shown(name)}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    if len(unknown) > MOST_NAMED:
        faults.append(f"{len(unknown) - MOST_NAMED} more unknown columns")
    missing = [name for name in wanted[: max(least, len(header))] if name not in counts]
    if missing:
        faults.append(f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    if doubled := sorted(name for name, n in counts.items() if n > 1):
        faults.append(f"column {_some(doubled)} stands twice")
    return "; ".join(faults) or "the columns are in another order"


def _least(kind: type[Any]) -> int:
    """The least number of columns of a table; later ones are unknown to an older one."""
    own: int | None = getattr(kind, "LEAST_COLUMNS", None)
    return _PUBLISHED_COLUMNS.get(kind) or own or len(columns(kind))
