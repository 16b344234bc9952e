"""CSV tables of records: strict reading and atomic replacing; `table_appends` adds rows."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from epochcast.paths import excluded_csv
from epochcast.schema import AggRow, Exclusion, NewerSchemaError, RunRecord
from epochcast.storage.cells import format_rows, header_line, parse_row
from epochcast.storage.files import naming, open_regular, read_some, write_text_atomically
from epochcast.storage.locks import NoLocksError, lock
from epochcast.storage.table_lines import cells_of, decode_table, header_of, least_header, lines_of, refuse_packed
from epochcast.text_sinks import one_line

logger = logging.getLogger(__name__)
Record = TypeVar("Record")


# --- reading ---------------------------------------------------------------------------------------------------------


def table_bytes(path: Path) -> bytes:
    """The content of a table, read once while nobody appends to it.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read, or is no regular file.
        ValueError: if it is packed.
    """
    try:
        with naming(path), open_regular(path) as file:
            with contextlib.suppress(NoLocksError):
                # a writer holds LOCK_EX: what looks torn under this lock is torn
                lock(file.fileno(), path, is_shared=True)
            raw = read_some(file)
        refuse_packed(path, raw)
        return raw
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such table. Measure something first, or name another with a flag."
        ) from None


def read_table(path: Path, kind: type[Record]) -> list[Record]:
    """All rows of a table, in file order.

    A last line that a crash cut short is reported and left out; the next append moves it aside.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: names file, line and column of the first thing that is wrong.
    """
    path = path.absolute()
    return parse_table(path, table_bytes(path), kind)


def read_table_if_any(path: Path, kind: type[Record]) -> list[Record]:
    """The rows of a table; none where there is no table yet, or a kill cut its first header short.

    Raises:
        ValueError: as `read_table`.
    """
    path = path.absolute()
    try:
        raw = table_bytes(path)
    except FileNotFoundError:
        return []
    return [] if header_line(kind).encode().startswith(raw) else parse_table(path, raw, kind)


def parse_table(path: Path, raw: bytes, kind: type[Record]) -> list[Record]:
    """The rows of a table from its bytes; `path` is only named. Raises the ValueErrors of `read_table`."""
    lines = lines_of(decode_table(path, raw))
    if not lines:
        raise ValueError(f"{path}:1: the file is empty, expected the header {least_header(kind)!r}.")
    header = header_of(path, lines[0], kind)
    records: list[Record] = []
    for number, line in enumerate(lines[1:], start=2):  # a row is one line: a quote left open can't swallow others
        if number == len(lines) and is_torn(line, kind):
            logger.warning(
                "%s:%d: the last line has no line end, it may be cut short; left out: %r. %s",
                path,
                number,
                line[:80],
                f"If it is whole, end it: echo >> {shlex.quote(str(path))}"
                if has_all_cells(line, header)
                else remedy_of_cut(path, kind),
            )
            break
        try:
            if cells := cells_of(line):
                records.append(parse_row(cells, header, kind))
        except NewerSchemaError as error:
            raise NewerSchemaError(f"{path}:{number}, {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}:{number}, {str(error).rstrip('.')}. {_remedy(kind, path)}") from None
    return records


def _remedy(kind: type[Any], path: Path) -> str:
    """What to do about a row that can't be read."""
    if kind is RunRecord:
        # what is kept is appended again before the next run, too: measuring again gives a second row beside it
        return (
            f"Correct the cell, or delete the row and run epochcast recover --runs {shlex.quote(str(path))}: it "
            "appends the run as it was measured, from logs/<run_id>.json. Where that file is lost, measure it again."
        )
    if kind is AggRow:
        return "Correct the cell, or move the table away and make it anew: epochcast aggregate --runs RUNS --out PATH."
    return "Correct the cell, or delete the row."


def is_torn(last_line: str, kind: type[Any]) -> bool:
    """Whether the last line of a table was cut short: the line end is the mark of a whole row.

    Without it nothing tells `0.7` from a `0.7123` that lost its end. A list of runs taken back is written by hand, by
    editors that leave the last line end out, and is taken as it is.
    """
    return not last_line.endswith("\n") and bool(last_line.strip()) and kind is not Exclusion


def has_all_cells(line: str, header: Sequence[str]) -> bool:
    """Whether a last line without a line end may be whole: of a line that lacks cells it is sure that it is not."""
    try:
        return len(cells_of(line)) == len(header)
    except ValueError:
        return False


def remedy_of_cut(path: Path, kind: type[Any]) -> str:
    """What to do about a last line that lacks cells."""
    if kind is RunRecord:
        return f"Its run, if it ended, is appended by: epochcast recover --runs {shlex.quote(str(path))}"
    return "It lacks cells: complete or delete it."


def torn_file_of(path: Path) -> Path:
    """The file that keeps the last lines without a line end that appends have moved out of a table."""
    return path.with_name(path.name + ".torn")


def putting_back(path: Path) -> str:
    """The shell command that appends the line moved last to the table again."""
    return f"tail -n 1 {shlex.quote(str(torn_file_of(path)))} >> {shlex.quote(str(path))}"


@dataclass(frozen=True, slots=True)
class RunTable:
    """The rows of a runs.csv, and those that its excluded.csv takes back. `rows` and `excluded` are all rows read."""

    path: Path
    rows: list[RunRecord]
    excluded: list[tuple[RunRecord, Exclusion]]


def read_runs(path: Path) -> RunTable:
    """The measured runs of a table, without those that the excluded.csv beside it takes back.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: names file, line and column; also where excluded.csv names a run that the table does not hold.
    """
    exclusions = excluded_csv(path)
    return parse_runs(path, table_bytes(path), table_bytes(exclusions) if exclusions.exists() else None)


def parse_runs(path: Path, raw: bytes, raw_exclusions: bytes | None) -> RunTable:
    """What `read_runs` returns, from the bytes of the two files; None: there is no excluded.csv."""
    records = parse_table(path.absolute(), raw, RunRecord)
    exclusions_path = excluded_csv(path)
    exclusions = {}
    if raw_exclusions is not None:
        exclusions = {e.run_id: e for e in parse_table(exclusions_path.absolute(), raw_exclusions, Exclusion)}
    if unknown := sorted(exclusions.keys() - {r.run_id for r in records}):
        raise ValueError(
            f"{exclusions_path.absolute()}: run_id {one_line(', '.join(unknown)[:200])} is not in {path.absolute()}. "
            "Correct the run_id or delete the line."
        )
    rows = [r for r in records if r.run_id not in exclusions]
    excluded = [(r, exclusions[r.run_id]) for r in records if r.run_id is not None and r.run_id in exclusions]
    for record, exclusion in excluded:
        logger.warning("%s: run %s is excluded: %s", path, record.run_id, exclusion.reason)
    return RunTable(path, rows, excluded)


# --- replacing -------------------------------------------------------------------------------------------------------


def write_table(path: Path, records: Sequence[Record], kind: type[Record]) -> None:
    """Replace a whole table."""
    write_text_atomically(path, header_line(kind) + format_rows(records))
