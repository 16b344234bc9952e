"""Runs outside their table: the JSON beside a run's log, LOGGED and FAILED lines of logs and captured output."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from epochcast.schema import FailureRecord, RunRecord, from_json_dict
from epochcast.storage.cells import shown
from epochcast.storage.files import json_bytes, open_regular
from epochcast.storage.json_files import parse_json, read_json
from epochcast.text_sinks import without_colours

LOGGED, FAILED, TABLE = "LOGGED: ", "FAILED: ", "TABLE: "  # begin the lines that hold a row, and name its table
Record = TypeVar("Record", bound=RunRecord | FailureRecord)
LONGEST_LINE = 1 << 25  # bytes; a row of a million epochs is shorter
_ROW = re.compile(f"({LOGGED}|{FAILED})(?={{)")
RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
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
    """The JSON of a finished run, one that can be read back; what beside the row can't is kept as text."""
    try:
        data = json_bytes(kept)
        parse_json(data)
        return data
    except (ValueError, TypeError, RecursionError):
        needed = {name: kept[name] for name in ("table", "row", "spec")}
        beside = {name: ascii(value)[:100_000] for name, value in kept.items() if name not in needed}
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
    if not (isinstance(record.run_id, str) and RUN_ID.fullmatch(record.run_id)):
        raise ValueError(f"{type(record).__name__}.run_id must be a name, got {shown(str(record.run_id))}.")
    return record


def logged_runs(path: Path) -> Iterator[KeptRun | str]:
    """Each row of a log or of captured output, with the table that a line above it names; a str says what is wrong.

    A row may stand anywhere in its line: terminals, schedulers and loggers put colours, times and names around it.

    Raises:
        OSError: if the file can't be read.
        ValueError: if it is UTF-16 text.
    """
    table = None
    with open_regular(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{path}:1: UTF-16 text. Save the file as UTF-8.")
            text = without_colours(line.decode("utf-8", errors="replace")).rstrip("\r\n")
            if (found := _ROW.search(text)) is not None:
                yield _row_in(text, found, table, f"{path}:{number}")
                table = None  # of the next row alone: what is captured may be of several commands
            elif TABLE in text:
                table = Path(text.rpartition(TABLE)[2])


def _row_in(text: str, found: re.Match[str], table: Path | None, where: str) -> KeptRun | str:
    try:
        _, end = json.JSONDecoder().raw_decode(text, found.end())  # what stands behind it is somebody else's
        values = parse_json(text[found.end() : end])
        return KeptRun(_named(from_json_dict(_KINDS[found[1]], values)), table, where)
    except (ValueError, RecursionError) as error:
        return f"{where}: a {found[1].strip(': ')} line that can't be used: {str(error) or 'nested too deeply'}"


def lines_of_row(mark: str, row: Mapping[str, Any], table: Path) -> list[str]:
    """The lines that keep a row in a log: its table, and itself."""
    return [f"{TABLE}{table}", f"{mark}{json.dumps(row)}"]


def recover_command(runs: Path, log_dir: Path, *more: str) -> str:
    """The command that appends what is kept for a table, for a shell."""
    return shlex.join(["epochcast", "recover", "--runs", str(runs), "--log_dir", str(log_dir), *more])
