"""Runs outside their table: the JSON beside a run's log, LOGGED and FAILED lines of logs and captured output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from epochcast.files import json_bytes, open_regular
from epochcast.json_files import parse_json, read_json
from epochcast.schema import FailureRecord, RunRecord, from_json_dict

LOGGED, FAILED, TABLE = "LOGGED: ", "FAILED: ", "TABLE: "  # begin the lines that hold a row, and name its table
Record = TypeVar("Record", bound=RunRecord | FailureRecord)
LONGEST_LINE = 1 << 25  # bytes; a row of a million epochs is shorter
_KINDS: dict[str, type[RunRecord] | type[FailureRecord]] = {LOGGED: RunRecord, FAILED: FailureRecord}


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A row found outside its table; `table` is None where nothing names it."""

    record: RunRecord | FailureRecord
    table: Path | None
    where: str


def kept_files(log_dir: Path, run_id: str) -> list[Path]:
    """The JSON files that may hold this run: `<run_id>.json`, and `<run_id>~2.json` ... of other tables."""
    own = re.compile(re.escape(run_id) + r"(~\d+)?\.json")
    return sorted(path for path in log_dir.glob("*.json") if own.fullmatch(path.name))


def free_name(log_dir: Path, run_id: str) -> Path:
    """A name for the JSON of a run under which nothing stands: what an earlier run kept is never replaced."""
    path, number = log_dir / f"{run_id}.json", 2
    while path.exists() or path.is_symlink():
        path, number = log_dir / f"{run_id}~{number}.json", number + 1
    return path


def kept_bytes(kept: Mapping[str, Any]) -> bytes:
    """The JSON of a finished run; what beside the row is no plain JSON becomes text, so that it never costs the row."""
    try:
        return json_bytes(kept)
    except (ValueError, TypeError, RecursionError):
        needed = {name: kept[name] for name in ("table", "row", "spec")}
        beside = {name: repr(value)[:100_000] for name, value in kept.items() if name not in needed}
        return json_bytes(needed | beside)


def read_kept(path: Path) -> KeptRun:
    """The row of a finished run's JSON.

    Raises:
        OSError: if the file can't be read.
        ValueError: names the file and what is wrong.
    """
    value = read_json(path)
    table = value.get("table") if isinstance(value, dict) else None
    if not (isinstance(table, str) and table and "\0" not in table):
        raise ValueError(f"{path}: not the JSON of a finished run: it names no table.")
    try:
        return KeptRun(_named(from_json_dict(RunRecord, value.get("row"))), Path(table), str(path))
    except ValueError as error:
        raise ValueError(f"{path}: not the JSON of a finished run: {error}") from None


def _named(record: Record) -> Record:
    """The record, which must have a run_id: without one nothing tells whether the table holds it already."""
    run_id = record.run_id
    if not (isinstance(run_id, str) and run_id.strip()):
        raise ValueError(f"{type(record).__name__}.run_id must be a name, got {run_id!r}.")
    return record


def logged_runs(path: Path) -> Iterator[KeptRun | str]:
    """Each row of a log or of captured output, with the table that the line above it names; a str says what is wrong.

    Raises:
        OSError: if the file can't be read.
    """
    table = None
    with open_regular(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            text = line.decode("utf-8", errors="replace").rstrip("\r\n")
            if text.startswith(TABLE):
                table = Path(text.removeprefix(TABLE))
            elif (mark := next((m for m in _KINDS if text.startswith(m)), None)) is not None:
                try:
                    record = _named(from_json_dict(_KINDS[mark], parse_json(text.removeprefix(mark))))
                    yield KeptRun(record, table, f"{path}:{number}")
                except ValueError as error:
                    yield f"{path}:{number}: {error}"


def lines_of_row(mark: str, row: Mapping[str, Any], table: Path) -> list[str]:
    """The lines that keep a row in a log: its table, and itself."""
    return [f"{TABLE}{table}", f"{mark}{json.dumps(row)}"]
