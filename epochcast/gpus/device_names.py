"""The name by which conditions are compared: one spelling for each board, that of its newest row.

Drivers rename boards. The rows of a table keep the name that they were measured under; wherever rows are grouped by
their conditions they first get one spelling (`with_one_name`), so that equal conditions are equal. Conditions of two
tables, or of a table and a model or plan, are compared by `are_same_conditions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from epochcast.gpus.lookup import is_same_device, known_gpu
from epochcast.schema import AggRow, Conditions, RunRecord
from epochcast.storage.cells import parse_time

Row = TypeVar("Row", RunRecord, AggRow)
_NEVER = datetime.min.replace(tzinfo=UTC)


def with_one_name(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, those of one board under the name that its newest (else its last) row has."""
    listed = list(rows)
    spelling = spellings(listed)
    return [
        row if spelling.get(row.device_name, row.device_name) == row.device_name else _renamed(row, spelling)
        for row in listed
    ]


def spellings(rows: Iterable[RunRecord | AggRow]) -> dict[str | None, str]:
    """Return for every device name of the rows the one that its board is called by."""
    newest: dict[str, datetime] = {}  # device name: time of its newest row; the order is that of their last rows
    for row in rows:
        if row.device_name is not None:
            time = parse_time(row.timestamp_utc) if isinstance(row, RunRecord) else _NEVER
            newest[row.device_name] = max(time, newest.pop(row.device_name, _NEVER))
    if len(newest) < 2:
        return {name: name for name in newest}
    ordered = sorted(newest, key=newest.__getitem__)[::-1]
    return {name: next(other for other in ordered if is_same_device(other, name)) for name in newest}


def are_same_conditions(one: Conditions, other: Conditions) -> bool:
    """Return whether conditions are the same, their devices compared as boards."""
    if one == other:
        return True
    is_device = is_same_device(one.device_name, other.device_name)
    return is_device and replace(one, device_name=other.device_name) == other


def respelled(filters: Sequence[Mapping[str, str]], rows: Iterable[RunRecord | AggRow]) -> list[Mapping[str, str]]:
    """Return filters (`NAME=VALUE`) that name a device as these rows do."""
    names = [name for name in dict.fromkeys(row.device_name for row in rows) if name is not None]

    def of_rows(pairs: Mapping[str, str]) -> Mapping[str, str]:
        asked = pairs.get("device_name")
        known = next((name for name in names if asked not in (None, *names) and is_same_device(asked, name)), asked)
        return pairs if known is None else {**pairs, "device_name": known}

    return [of_rows(pairs) for pairs in filters]


def board_name(device_name: str | None) -> str | None:
    """Return what a board is called by in the names of files: the facts' name, else its own."""
    gpu = known_gpu(device_name)
    return device_name if gpu is None else gpu.name


def _renamed(row: Row, spelling: Mapping[str | None, str]) -> Row:
    return replace(row, device_name=spelling[row.device_name])
