"""The record beside a table of averages: which runs it was made from, and whether the table still is what was made.

Record and table are two files, so a kill or another process can come between them. The record is written first, under a
lock, with the hashes of the table to come and of the one that it replaces: whichever of the two stands there is known
as ours, and any other as a user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregate.runs_agg import Aggregation, aggregate
from epochcast.cells import format_rows, header_line
from epochcast.file_kinds import refuse_another_kind
from epochcast.files import read_bytes, write_bytes_atomically, write_json_atomically
from epochcast.json_files import read_json
from epochcast.locks import NoLocksError
from epochcast.paths import excluded_csv
from epochcast.schema import AggRow
from epochcast.tables import RunTable, locked, parse_runs, table_bytes

logger = logging.getLogger(__name__)

LONGEST_PATH = 4096  # characters; PATH_MAX of Linux
MOST_READS = 100  # of a pair that others replace meanwhile


def source_file_of(path: Path) -> Path:
    return path.with_name(path.name + ".source.json")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Sources:
    """A runs.csv and the excluded.csv beside it, each read once: what is hashed is what is averaged."""

    runs: Path
    raw: bytes
    raw_exclusions: bytes | None

    @classmethod
    def read(cls, runs: Path) -> Sources:
        """Raises FileNotFoundError where there is no such table, OSError where a file can't be read."""
        raw, exclusions = table_bytes(runs), excluded_csv(runs)
        return cls(runs, raw, table_bytes(exclusions) if exclusions.exists() else None)

    def table(self) -> RunTable:
        return parse_runs(self.runs, self.raw, self.raw_exclusions)

    def hashes(self) -> dict[str, str | None]:
        exclusions = None if self.raw_exclusions is None else sha256(self.raw_exclusions)
        return {"runs_sha256": sha256(self.raw), "excluded_sha256": exclusions}


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What a table of averages was made from; `replaces` is the hash of our own table that stood there before."""

    source: Path
    hashes: dict[str, Any]
    agg_sha256: str | None
    replaces: str | None

    @classmethod
    def read(cls, path: Path) -> SourceRecord | None:
        """The record of the table at `path`; None where there is none.

        Raises:
            ValueError: if it is no such record.
            OSError: if it can't be read.
        """
        file = source_file_of(path)
        try:
            values = read_json(file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _no_record(file, path, str(error).removeprefix(f"{file.absolute()}: ")) from None
        source = values.get("source") if isinstance(values, dict) else None
        if not (isinstance(source, str) and 0 < len(source) <= LONGEST_PATH and "\0" not in source):
            raise _no_record(file, path, "it names no source")
        hashes = {name: values.get(name) for name in ("runs_sha256", "excluded_sha256")}
        return cls(path.parent / source, hashes, values.get("agg_sha256"), values.get("replaces"))

    def is_ours(self, data: bytes) -> bool:
        """Whether a table is the one that the record is of, or the one before it: nobody has edited it."""
        return sha256(data) in (self.agg_sha256, self.replaces)

    def is_current(self, data: bytes, sources: Sources) -> bool:
        """Whether a table is the one that the record is of, and made from these sources."""
        return sha256(data) == self.agg_sha256 and sources.hashes() == self.hashes


def _no_record(file: Path, path: Path, why: str) -> ValueError:
    return ValueError(
        f"{file}: not a source record ({why.rstrip('.')}). Make both anew: epochcast aggregate --runs RUNS "
        f"--out {path}; or delete it, and the table is used as it is."
    )


def read_with_record(path: Path) -> tuple[SourceRecord | None, bytes | None]:
    """A table and its record that belong together, each None where it is missing.

    Raises:
        ValueError: if the record is none.
        OSError: if a file can't be read.
    """
    record = SourceRecord.read(path)
    for _ in range(MOST_READS):
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            data = None
        before, record = record, SourceRecord.read(path)
        if record == before:  # else another process wrote both between the two readings
            return record, data
    raise OSError(f"{path}: other processes replace it all the time. Try again.")


@contextlib.contextmanager
def cache_lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing a table and its record; the lock is a hidden file beside them.

    Raises:
        NoLocksError, TimeoutError: if there are no locks, or another process does not end.
        OSError: if the folder can't be written.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        yield


def write_averages(sources: Sources, out: Path) -> Aggregation:
    """Average the runs and write table and record; the caller holds the lock.

    Raises:
        ValueError: if the runs are wrong, or `out` is a file of another kind.
        OSError: if the files can't be written.
    """
    result = aggregate(sources.table())
    data = (header_line(AggRow) + format_rows(result.rows)).encode()
    before = _standing(out)
    try:
        record = SourceRecord.read(out)
    except ValueError:
        record = None
        source_file_of(out).unlink()  # a broken one would be taken for a file of another kind
    replaces = None if before is None or record is None or not record.is_ours(before) else sha256(before)
    # by name alone where both lie in one folder: moved or copied, it keeps to its own runs
    source = sources.runs.name if sources.runs.parent == out.parent else str(sources.runs)
    values = {"source": source, **sources.hashes(), "agg_sha256": sha256(data), "replaces": replaces}
    write_json_atomically(source_file_of(out), values)
    write_bytes_atomically(out, data)
    return result


def _standing(out: Path) -> bytes | None:
    """What stands where averages are to be written; a ValueError where it is no table of averages."""
    try:
        data = read_bytes(out)
    except FileNotFoundError:
        return None
    refuse_another_kind(out, header_line(AggRow).encode())
    return data


def write_agg(runs: Path, out: Path) -> Aggregation:
    """Average the repeats of a runs.csv into `out`, with the record beside it.

    Raises:
        ValueError, OSError: if the runs can't be read or averaged, or `out` can't be written.
    """
    runs, out = runs.absolute(), out.absolute()
    Sources.read(runs)  # what is refused leaves no folder and no lock behind
    _standing(out)
    try:
        with cache_lock(out):
            return write_averages(Sources.read(runs), out)
    except NoLocksError:
        logger.warning("%s: this file system has no locks: make averages there by one command at a time", out)
        return write_averages(Sources.read(runs), out)
