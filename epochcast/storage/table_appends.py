"""Durable appending of rows to CSV tables.

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.cells import checked_line, columns, header_line
from epochcast.storage.files import make_folder, naming, sync_folder
from epochcast.storage.locks import lock, warn_of_local_locks
from epochcast.storage.run_ids import run_ids_in
from epochcast.storage.table_lines import decode_table, header_of
from epochcast.storage.tables import has_all_cells, putting_back, remedy_of_cut, torn_file_of

logger = logging.getLogger(__name__)

MIN_FREE_BYTES = 1 << 20  # thousands of rows; less is asked for before a run, not after it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
END_BYTES = 1 << 16  # read of either end of a table before an append; a longer last line is followed further back


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
        f"If it is whole, put it back: {putting_back(path)}" if may_be_whole else remedy_of_cut(path, kind),
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
            lift = f"Lift it: epochcast migrate --runs {shlex.quote(str(path))}"
            raise ValueError(
                f"{path}:1: an older schema: {len(header)} columns, this version writes {len(columns(kind))}. It can "
                f"be read as it is, but not appended to. "
                f"{lift if kind in (RunRecord, FailureRecord) else 'Move it away: a new table is then begun.'}"
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
