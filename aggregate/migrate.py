"""Lift a table of an older schema to the present one: every cell stays as it is, what was not recorded stays unknown.

The `schema_version` of a row stays too: it says which version wrote the row, not which columns the file has.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.aggregate.merging.new_files import write_new_files
from epochcast.cli import add_json_flag, make_parser, path_flag, print_home, run_command
from epochcast.flag_types import path_of
from epochcast.output.text import json_line
from epochcast.paths import excluded_csv, failures_csv, runs_csv
from epochcast.schema import SCHEMA_VERSION, FailureRecord, RunRecord
from epochcast.storage.cells import columns, header_line
from epochcast.storage.files import link_new, naming, read_bytes, sync_folder
from epochcast.storage.table_appends import BYTE_ORDER_MARK, locked
from epochcast.storage.table_lines import cells_of, decode_table, header_of, is_empty
from epochcast.storage.tables import has_all_cells, is_torn, parse_table, table_bytes
from epochcast.storage.temporary_files import fill, temporary_file_for

LAST_COLUMNS = {1: "flags"}  # of runs.csv in each earlier schema; without them: the published columns, schema 0


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of one table: `path` now has the present schema."""

    path: Path
    n_rows: int
    old_version: int
    n_old_columns: int
    kept: Path | None  # the old file; None where it was not replaced
    is_torn: bool  # its last line lacks a line end and cells, and stands in the old file only

    @property
    def is_lifted(self) -> bool:
        return self.old_version < SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class _Content:
    """A table's bytes, taken apart into lines: its whole rows as they stand there."""

    header: list[str]
    lines: list[bytes]
    is_torn: bool

    @classmethod
    def of(cls, path: Path, data: bytes, kind: type[Any]) -> _Content:
        first, *lines = data.removeprefix(BYTE_ORDER_MARK).split(b"\n")
        header = header_of(path, decode_table(path, first), kind)
        last = lines.pop() if lines else b""  # empty where the file ends with a newline
        whole = [raw.rstrip(b"\r") for raw in lines]
        rows = [line for line in whole if not is_empty(line.decode(errors="replace"))]
        content = cls(header, rows, is_torn(line := last.decode(errors="replace"), kind))
        if content.is_torn and content.version(kind) < SCHEMA_VERSION and has_all_cells(line, header):
            raise ValueError(
                f"{path}:{len(lines) + 2}: the last line has no line end, so nothing tells whether it is whole: "
                f"{line[:80]!r}. If it is, end it: echo >> {shlex.quote(str(path))}; else delete it. Then migrate."
            )
        return content

    def version(self, kind: type[Any]) -> int:
        if len(self.header) == len(columns(kind)):
            return SCHEMA_VERSION
        return max((version for version, last in LAST_COLUMNS.items() if last in self.header), default=0)

    def lifted(self, kind: type[Any]) -> bytes:
        """The table with the present header; what an old line lacks is unknown."""
        added = b"," * (len(columns(kind)) - len(self.header))
        return b"".join([header_line(kind).encode(), *(line + added + b"\n" for line in self.lines)])

    def cells(self) -> list[list[str]]:
        return [cells_of(line.decode()) for line in self.lines]


def migrate(runs: Path, out: Path | None = None) -> list[Migration]:
    """Lift a runs.csv and the failures.csv beside it: in place, or into new files with their excluded.csv.

    In place the old file stays beside the new one as `runs.csv.schema1` (its version). The lock is that of appends: a
    row that is appended meanwhile is lifted too, or meets the new table. Killed at any moment it leaves the old table
    or the new one; begun again, also into new files, it goes on.

    Raises:
        FileNotFoundError, ValueError: if the table is missing, wrong, or a newer version's; nothing is changed then.
        FileExistsError: if `out`, or another file in place of one that would stand beside it, exists.
        OSError: if a file can't be written.
    """
    tables: list[tuple[Path, type[Any]]] = [(runs.absolute(), RunRecord)]
    if (failures := failures_csv(runs.absolute())).exists():
        tables.append((failures, FailureRecord))
    for path, kind in tables:
        data = table_bytes(path)
        parse_table(path, data, kind)  # names what is wrong before anything is changed
        _Content.of(path, data, kind)
    if out is None:
        return [_lift_in_place(path.resolve(), kind) for path, kind in tables]
    out = out.absolute()
    exclusions = excluded_csv(runs.absolute())
    contents: dict[Path, bytes | None] = {
        excluded_csv(out): read_bytes(exclusions) if exclusions.exists() else None,
        failures_csv(out): None,
    }
    done = []
    for path, kind in reversed(tables):
        content = _Content.of(path, table_bytes(path), kind)
        target = out if kind is RunRecord else failures_csv(out)
        contents[target] = content.lifted(kind)
        _verify(path, content, contents[target] or b"", kind)
        done.append(_migration(target, content, kind))
    write_new_files(contents)  # the runs last: with them all is there
    return done[::-1]


def _migration(path: Path, content: _Content, kind: type[Any], kept: Path | None = None) -> Migration:
    return Migration(path, len(content.lines), content.version(kind), len(content.header), kept, content.is_torn)


def _lift_in_place(path: Path, kind: type[Any]) -> Migration:
    with naming(path), locked(path) as descriptor:
        status = os.fstat(descriptor)
        data = os.pread(descriptor, status.st_size, 0)
        content = _Content.of(path, data, kind)
        version = content.version(kind)
        if version == SCHEMA_VERSION:
            return _migration(path, content, kind)
        with _lifted_file(path, content, kind) as lifted:
            lifted.chmod(status.st_mode & 0o777)
            with contextlib.suppress(PermissionError):
                os.chown(lifted, status.st_uid, status.st_gid)
            kept = _keep(path, data, version)
            os.replace(lifted, path)  # noqa: PTH105  # a seam: tests kill a migration here
        sync_folder(path.parent)
        return _migration(path, content, kind, kept)


@contextlib.contextmanager
def _lifted_file(path: Path, content: _Content, kind: type[Any]) -> Iterator[Path]:
    """A temporary file that is the table with the present header, read back and compared."""
    with temporary_file_for(path) as (file, lifted):
        try:
            fill(file, content.lifted(kind))
            _verify(path, content, read_bytes(lifted), kind)
        except OSError as error:  # of the temporary file, whose name says nothing to a user
            raise OSError(error.errno, f"could not write beside it ({error.strerror})", str(path)) from None
        yield lifted


def _verify(path: Path, content: _Content, lifted: bytes, kind: type[Any]) -> None:
    """Raise a ValueError unless the lifted bytes read as a table and hold every old cell, and nothing else."""
    n_read = len(parse_table(path, lifted, kind))
    found = _Content.of(path, lifted, kind)
    nothing = [""] * (len(columns(kind)) - len(content.header))
    if n_read != len(content.lines) or found.cells() != [cells + nothing for cells in content.cells()]:
        raise ValueError(f"{path}: the lifted table does not read back as the old one; nothing was changed.")


def _keep(path: Path, data: bytes, version: int) -> Path:
    """Give the old file a second name; what a migration killed before the replacing already kept is that."""
    kept, n = path.with_name(f"{path.name}.schema{version}"), 1
    while True:
        try:
            link_new(path, kept)
            return kept
        except FileExistsError:
            if kept.is_file() and kept.read_bytes() == data:
                return kept
            n += 1
            kept = path.with_name(f"{path.name}.schema{version}-{n}")


# --- command ---------------------------------------------------------------------------------------------------------


def _lines_about(done: Migration) -> list[str]:
    if not done.is_lifted and done.kept is None:
        return [f"{done.path}: {done.n_rows} rows, already schema {SCHEMA_VERSION}"]
    lines = [
        f"{done.path}: {done.n_rows} rows lifted from schema {done.old_version} ({done.n_old_columns} columns) to "
        f"schema {SCHEMA_VERSION}; what they did not record is unknown"
    ]
    lines += [f"kept: {done.kept}"] if done.kept else []
    lines += (
        ["torn: the last line has no line end and lacks cells; it stands in the old file only"] if done.is_torn else []
    )
    return lines


def _as_json(done: Migration) -> dict[str, Any]:
    kept = None if done.kept is None else str(done.kept)
    return {**asdict(done), "path": str(done.path), "kept": kept, "is_lifted": done.is_lifted, "schema": SCHEMA_VERSION}


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast migrate",
        "Lift a table of runs of an older schema to the present one, so that it can be appended to. No cell is "
        "changed; the old file is kept beside it.",
        "epochcast migrate --runs results/cpu_repeats/runs.csv --out results/lifted/runs.csv",
    )
    path_flag(parser, "--runs", runs_csv, "table of runs to lift, with the failures.csv beside it")
    parser.add_argument("--out", type=path_of, metavar="PATH", help="new table to make; default: lift in place")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        done = migrate(arguments.runs, arguments.out)
        if arguments.json:
            print(json_line({"tables": [_as_json(table) for table in done]}))
        else:
            print("\n".join(line for table in done for line in _lines_about(table)))
        return 0

    return run_command(work)
