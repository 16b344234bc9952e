"""Which run_ids a table holds, read on from where this process last looked: an append must not cost the whole table."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field

from epochcast.schema import RunRecord
from epochcast.storage.cells import columns, csv_reader

_INDEX = columns(RunRecord).index("run_id")
_BEHIND_TIMES = _INDEX - columns(RunRecord).index("epoch_times_json")  # columns from the quoted list to the run_id
SAMPLE_BYTES = 256


@dataclass(slots=True)
class _Known:
    size: int = 0
    end: bytes = b""
    run_ids: set[str] = field(default_factory=set)


_known: dict[tuple[int, int], _Known] = {}  # by device and inode


def run_ids_in(descriptor: int) -> set[str]:
    """The run_ids of a table of runs of today's columns, open and locked; whole lines only.

    What was read before is taken as it was while the file has only grown: its size and its bytes around where the last
    look ended say so.
    """
    status = os.fstat(descriptor)
    known = _known.setdefault((status.st_dev, status.st_ino), _Known())
    at = max(0, known.size - SAMPLE_BYTES)
    if known.size > status.st_size or os.pread(descriptor, known.size - at, at) != known.end:
        known.size, known.end, known.run_ids = 0, b"", set()
    if (n_new := status.st_size - known.size) > 0:
        data = _read(descriptor, n_new, known.size)
        known.run_ids.update(filter(None, map(_run_id_of, data.split(b"\n"))))
        known.size += len(data)
        known.end = (known.end + data)[-min(SAMPLE_BYTES, known.size) :]
    return known.run_ids


def _read(descriptor: int, n_bytes: int, offset: int) -> bytes:
    parts = []
    while n_bytes > 0 and (part := os.pread(descriptor, n_bytes, offset)):
        parts.append(part)
        n_bytes, offset = n_bytes - len(part), offset + len(part)
    return b"".join(parts)


def _run_id_of(line: bytes) -> str | None:
    """The run_id of a row's line; None of a line that has none, or is no row."""
    quoted = line.split(b'"')
    if len(quoted) == 3 and quoted[0].count(b",") == _INDEX - _BEHIND_TIMES:  # only the list of times is quoted
        cells = quoted[2].split(b",", _BEHIND_TIMES + 1)
        return cells[_BEHIND_TIMES].decode(errors="replace") if len(cells) > _BEHIND_TIMES else None
    try:
        row = next(csv_reader([line.decode(errors="replace")]), [])
    except csv.Error:
        return None
    return row[_INDEX] if len(row) > _INDEX else None
