"""The record beside a table of averages: which runs it was made from, and whether the table still is what was made.

Record and table are two files, so a kill or another process can come between them. The record is written first, under a
lock, with the hashes of the table to come and of the one that it replaces: whichever of the two stands there is known
as ours, and any other as a user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.averaging import Aggregation, aggregate
from epochcast.paths import excluded_csv
from epochcast.schema import AggRow
from epochcast.steady_time import RULE as STALL_RULE
from epochcast.storage.cells import format_rows, header_line
from epochcast.storage.files import (
    json_bytes,
    read_bytes,
    refuse_another_kind,
    write_bytes_atomically,
    write_json_atomically,
)
from epochcast.storage.json_files import read_json
from epochcast.storage.locks import NoLocksError
from epochcast.storage.table_appends import locked
from epochcast.storage.tables import RunTable, parse_runs, table_bytes

logger = logging.getLogger(__name__)

AVERAGED_AS = 2  # by which rules; 2: rows of one board, renamed by its driver, are averaged together
LONGEST_PATH = 4096  # characters; PATH_MAX of Linux
MOST_READS = 100  # of a pair that others replace meanwhile
_START = re.compile(r'\{\s*"source"\s*:')  # of a record, also of a cut one


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

    def hashes(self) -> dict[str, str | int | None]:
        """What the averages depend on: the files, and the rules by which they are made of them."""
        exclusions = None if self.raw_exclusions is None else sha256(self.raw_exclusions)
        return {
            "runs_sha256": sha256(self.raw),
            "excluded_sha256": exclusions,
            "averaged_as": AVERAGED_AS,
            "stall_rule": STALL_RULE,
        }


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
        hashes = {name: values.get(name) for name in ("runs_sha256", "excluded_sha256", "averaged_as", "stall_rule")}
        return cls(path.parent / source, hashes, values.get("agg_sha256"), values.get("replaces"))

    def is_ours(self, data: bytes) -> bool:
        """Whether a table is the one that the record is of, or the one before it: nobody has edited it."""
        return sha256(data) in (self.agg_sha256, self.replaces)

    def is_current(self, data: bytes, sources: Sources) -> bool:
        """Whether a table is the one that the record is of, made from these sources with today's columns."""
        is_whole = data.startswith(header_line(AggRow).encode())  # an earlier version's table has fewer columns
        return is_whole and sha256(data) == self.agg_sha256 and sources.hashes() == self.hashes


def _no_record(file: Path, path: Path, why: str) -> ValueError:
    return ValueError(
        f"{file}: not a source record ({why.rstrip('.')}). Move the table away and make both anew: epochcast "
        f"aggregate --runs RUNS --out {path}; or delete the record, and the table is used as it is."
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
    """Keep other processes from writing a table and its record, by a hidden file beside them that goes at the end.

    Raises:
        NoLocksError, TimeoutError: if there are no locks, or another process does not end.
        OSError: if the folder can't be written.
    """
    file = path.with_name(f".{path.name}.lock")
    try:
        with locked(file):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    file.unlink()  # the last act under the lock: who waits for it sees that it is gone, makes another
    except NoLocksError:
        file.unlink(missing_ok=True)
        raise


def write_averages(sources: Sources, out: Path, result: Aggregation | None = None) -> Aggregation:
    """Average the runs, where `result` is not that, and write table and record; the caller holds the lock.

    Raises:
        ValueError: if the runs are wrong, or what stands at `out` or in the record's place is not ours to replace.
        OSError: if the files can't be written.
    """
    result = aggregate(sources.table()) if result is None else result
    data = _table_of(result)
    replaces, is_broken = _replaceable(out, data)
    # by name alone where both lie in one folder: moved or copied, it keeps to its own runs
    source = sources.runs.name if sources.runs.parent == out.parent else str(sources.runs)
    values = {"source": source, **sources.hashes(), "agg_sha256": sha256(data), "replaces": replaces}
    if is_broken:
        source_file_of(out).unlink(missing_ok=True)  # a broken one would be taken for a file of another kind
    write_json_atomically(source_file_of(out), values)
    write_bytes_atomically(out, data)
    return result


def _table_of(result: Aggregation) -> bytes:
    return (header_line(AggRow) + format_rows(result.rows)).encode()


def _replaceable(out: Path, data: bytes) -> tuple[str | None, bool]:
    """The hash of a table of ours at `out`, None where there is none, and whether its record is broken.

    Raises:
        ValueError: if the table, which is not `data`, was not made by us or was edited since, or is no such table; or
            if what stands in the record's place is no record, whole or cut.
    """
    record = before = None
    is_broken = False
    try:
        record, before = read_with_record(out)
    except ValueError:
        _refuse_no_record(source_file_of(out))
        is_broken = True
        with contextlib.suppress(FileNotFoundError):
            before = read_bytes(out)
    if before is None:
        return None, is_broken
    refuse_another_kind(out, data)
    if record is not None and record.is_ours(before):
        return sha256(before), is_broken
    if before != data and len(before.splitlines()) > 1:  # a header alone holds nothing
        why = "it was edited since it was aggregated" if record else "no record beside it says that it was made here"
        raise ValueError(
            f"{out} is a table of averages that may be the only copy ({why}), and is not replaced. Name another file "
            "with --out, or move this one away first."
        )
    return None, is_broken


def _refuse_no_record(file: Path) -> None:
    """Raise a ValueError unless a file that can't be read as a record is one all the same: broken, or cut short."""
    text = read_bytes(file).decode(errors="replace").strip()
    is_cut = not text.endswith("}") or '"agg_sha256"' in text
    if not (_START.match(text) and is_cut) and not '{\n "source":'.startswith(text):
        refuse_another_kind(file, json_bytes({"source": "", "agg_sha256": ""}))


def write_agg(runs: Path, out: Path) -> Aggregation:
    """Average the repeats of a runs.csv into `out`, with the record beside it.

    Raises:
        ValueError, OSError: if the runs can't be read or averaged, or `out` can't be written.
    """
    runs, out = runs.absolute(), out.absolute()
    sources = Sources.read(runs)
    result = aggregate(table := sources.table())
    from epochcast.aggregate.averages.repeats import runs_warning  # only where averages are made

    if words := runs_warning(table.rows, runs):
        logger.warning("%s", words)
    _replaceable(out, _table_of(result))  # what is refused leaves no folder and no lock behind
    try:
        with cache_lock(out):
            again = Sources.read(runs)
            return write_averages(again, out, result if again == sources else None)
    except NoLocksError:
        logger.warning("%s: this file system has no locks: make averages there by one command at a time", out)
        return write_averages(sources, out, result)
