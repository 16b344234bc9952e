"""What an extraction has read so far, in a file from which it resumes.

One JSON line for each log: which file, and what it says. The file is removed once the table is written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from epochcast.mlperf.logs.run_log import RunLog
from epochcast.storage.files import open_regular, read_some

VERSION = 1  # another one where what is read from a log has changed
FLUSH_EVERY = 100  # logs; what a kill loses is read again
MOST_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class ReadLog:
    """A log that was read, and its content's hash; None where the clone lacks it."""

    run: RunLog | None
    sha256: str | None


@dataclass(slots=True)
class Journal:
    """The logs of a source that were read, by path and stamp."""

    path: Path
    known: dict[tuple[str, str], ReadLog] = field(default_factory=dict)
    _file: IO[str] | None = None
    _n_unwritten: int = 0

    def add(self, path: str, stamp: str, found: ReadLog) -> None:
        """Write what was read from a log."""
        if self._file is None:
            return
        run = None if found.run is None else asdict(found.run)
        line = json.dumps({"log": path, "stamp": stamp, "sha256": found.sha256, "run": run})
        self._file.write(f"{line}\n")
        self._n_unwritten += 1
        if self._n_unwritten >= FLUSH_EVERY:
            self._file.flush()
            self._n_unwritten = 0

    def remove(self) -> None:
        """Remove the file: the table holds what it holds."""
        self.path.unlink(missing_ok=True)


def journal_path(table: Path) -> Path:
    """Return the journal's path of an extraction into a table."""
    return table.with_name(f"{table.name}.part")


@contextlib.contextmanager
def open_journal(path: Path, source: str) -> Iterator[Journal]:
    """The journal of an extraction, which knows what an earlier one of the source read.

    Raises:
        ValueError: if a file of another kind stands there.
        OSError: if it can't be written.
    """
    head = json.dumps({"mlperf_extraction": VERSION, "source": source}) + "\n"
    known = _known(path, head)
    mode = "a" if known is not None else "w"
    with path.open(mode, encoding="utf-8", newline="\n") as file:
        if known is None:
            file.write(head)
            file.flush()
        yield Journal(path, known or {}, file)


def _known(path: Path, head: str) -> dict[tuple[str, str], ReadLog] | None:
    """Return what a journal of the same source and version holds; None without one."""
    try:
        with open_regular(path) as file:
            text = read_some(file, MOST_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    if not text.strip():
        return None
    if not text.startswith('{"mlperf_extraction": '):
        raise ValueError(
            f"{path} is no journal of an extraction and is not replaced. Move it away, or name another --out."
        )
    if not text.startswith(head):
        return None
    known = {}
    for line in text[len(head) :].splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be cut: its log is read again
            said = json.loads(line)
            run = None if said["run"] is None else RunLog(**said["run"])
            known[said["log"], said["stamp"]] = ReadLog(run, said["sha256"])
    return known
