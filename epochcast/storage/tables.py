"""CSV tables of records: strict reading, durable appending, atomic replacing.

Rows are what a measurement cost GPU minutes for, so nothing here loses one: an append is one write under an exclusive
lock, flushed to the disk; a line that a crash cut short is moved aside, not deleted; a table that is not ours is never
written to.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from epochcast.paths import excluded_csv
from epochcast.schema import AggRow, Exclusion, NewerSchemaError, RunRecord
from epochcast.storage.cells import checked_line, columns, format_rows, header_line, parse_row
from epochcast.storage.files import make_folder, naming, open_regular, read_some, sync_folder, write_text_atomically
from epochcast.storage.locks import NoLocksError, lock, warn_of_local_locks
from epochcast.storage.table_lines import cells_of, decode_table, header_of, least_header, lines_of, refuse_packed
from epochcast.text_sinks import one_line

logger = logging.getLogger(__name__)
Record = TypeVar("Record")

MIN_FREE_BYTES = 1 << 20  # thousands of rows; less is asked for before a run, not after it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
END_BYTES = 1 << 16  # read of either end of a table before an append; a longer last line is followed further back


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
                else _remedy_of_cut(path, kind),
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


def _remedy_of_cut(path: Path, kind: type[Any]) -> str:
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


# --- appending -------------------------------------------------------------------------------------------------------


class DuplicateRunError(ValueError):
    """The table holds a run of this run_id already; looked up under the lock that the append holds."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """A file descriptor of `path` under an exclusive lock; the file and its folder are made if absent."""
    make_folder(path.parent)
    warn_of_local_locks(path)
    while True:
        is_current = False
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISFIFO(status.st_mode):
                raise OSError(errno.EINVAL, "a pipe, not a file: a table can't be kept in it", str(path))
            lock(descriptor, path)
            if status.st_size == 0:
                sync_folder(path.parent)  # it may be new: a power cut could take the whole file, rows and all
            with contextlib.suppress(FileNotFoundError):
                is_current = status.st_ino == path.stat().st_ino
            if is_current:  # else it was replaced or removed while we waited
                yield descriptor
                return
        finally:
            with contextlib.suppress(OSError):  # what was written has been pushed to the disk before
                os.close(descriptor)


def _read_last_line(descriptor: int, size: int) -> bytes:
    """What stands behind the last newline: empty for a whole table."""
    reach = END_BYTES
    while b"\n" not in (tail := os.pread(descriptor, reach, max(0, size - reach))) and reach < size:
        reach *= 2
    return tail[tail.rfind(b"\n") + 1 :]


def _write_all(descriptor: int, data: bytes, path: Path) -> None:
    """Append `data` by one write and push it to the disk; what could only be written in part is taken back."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        if os.fstat(descriptor).st_size != size + len(data):
            raise OSError(errno.EINVAL, "a device that keeps nothing")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise OSError(error.errno, f"could not append ({error.strerror})", str(path)) from None


def _move_torn_line(descriptor: int, path: Path, kind: type[Any]) -> None:
    """Move a last line without a line end to `<path>.torn`; the table has all columns, and the lock is held."""
    size = os.fstat(descriptor).st_size
    tail = _read_last_line(descriptor, size)
    if not tail:
        return
    torn = torn_file_of(path)
    with torn.open("ab") as file:
        file.write(tail + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(torn.parent)
    os.ftruncate(descriptor, size - len(tail))
    os.fsync(descriptor)
    may_be_whole = has_all_cells(tail.decode(errors="replace"), columns(kind))
    logger.warning(
        "%s: the last line had no line end, it may be cut short; moved to %s: %r. %s",
        path,
        torn,
        tail[:80],
        f"If it is whole, put it back: {putting_back(path)}" if may_be_whole else _remedy_of_cut(path, kind),
    )


def _make_ready(descriptor: int, path: Path, kind: type[Any]) -> None:
    """Leave a table that a row can be appended to: header ours and newest, last line whole. The lock is held."""
    own_header = header_line(kind).encode()
    if os.fstat(descriptor).st_size == 0:  # or a device, which is refused by the write
        _write_all(descriptor, own_header, path)
        return
    start = os.pread(descriptor, END_BYTES, 0)
    is_header = b"\n" not in start and _is_start_of(start, own_header)  # of ours, without its line end
    if not is_header and not start.startswith(own_header):  # else nothing needs to be taken apart
        header = header_of(path, decode_table(path, start.partition(b"\n")[0]), kind)
        if len(header) < len(columns(kind)):
            raise ValueError(
                f"{path}:1: an older schema: {len(header)} columns, this version writes {len(columns(kind))}. It can "
                f"be read as it is, but not appended to. Lift it: epochcast migrate --runs {shlex.quote(str(path))}"
            )
        is_header = b"\n" not in start  # as another program writes it
    if is_header:
        os.ftruncate(descriptor, 0)  # the very first write was cut short, or nothing more: it holds no measurement
        _write_all(descriptor, own_header, path)
        return
    _move_torn_line(descriptor, path, kind)


def _is_start_of(start: bytes, header: bytes) -> bool:
    """Whether a line without its end is the beginning of a header, however it was cut."""
    return BYTE_ORDER_MARK.startswith(start) or header.startswith(start.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r"))


def check_appendable(path: Path, kind: type[Any]) -> None:
    """Make sure, before a run is paid for, that its row can be appended: header, schema, lock, right to write, space.

    A table that does not exist is made, with its header.

    Raises:
        ValueError: if the file is not such a table, or one of an older schema.
        OSError: if it can't be written, or less than 1 MiB is free (the path stands in the message).
    """
    path = path.absolute()
    with naming(path), locked(path) as descriptor:
        _make_ready(descriptor, path, kind)
    free = os.statvfs(path.parent)
    if free.f_bavail * free.f_frsize < MIN_FREE_BYTES:
        raise OSError(errno.ENOSPC, "less than 1 MiB is free", str(path.parent))


def append_row(path: Path, record: Any) -> None:
    """Append one record durably: exclusive lock, header checked under it, one write, flush, fsync.

    Raises:
        CellError: if the record could not be read back: nothing is written.
        DuplicateRunError: if a run of this run_id is in the table already.
        ValueError: if the file is not a table of such records.
        OSError: if the row could not be written; the table is then as it was.
    """
    from epochcast.storage.run_ids import run_ids_in  # those who only read need none

    path = path.absolute()
    data = checked_line(record).encode()
    with naming(path), locked(path) as descriptor:
        _make_ready(descriptor, path, type(record))
        if not isinstance(record, RunRecord) or record.run_id is None:
            _write_all(descriptor, data, path)
            return
        known = run_ids_in(descriptor)
        if record.run_id in known:
            raise DuplicateRunError(f"{path} holds a run {record.run_id} already.")
        _write_all(descriptor, data, path)


# --- replacing -------------------------------------------------------------------------------------------------------


def write_table(path: Path, records: Sequence[Record], kind: type[Record]) -> None:
    """Replace a whole table."""
    write_text_atomically(path, header_line(kind) + format_rows(records))
