"""What a run needs is taken before it is measured: its name in the table, its log, space for its row and its JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from epochcast.schema import RunSpec
from epochcast.storage.files import link_new, make_folder
from epochcast.storage.locks import try_lock
from epochcast.storage.temporary_files import TEMPORARY, fill, host_and_boot, is_at, temporary_file_for

ROW_BYTES, ROW_BYTES_PER_EPOCH = 1 << 14, 32  # of runs.csv or failures.csv, generous
JSON_BYTES, JSON_BYTES_PER_EPOCH = 1 << 18, 160  # row, spec, environment before and after, both edges of every epoch
MOST_EPOCHS = 10_000  # that space is taken for: an open run may name a limit that it never comes near
# a claim may be looked at by who removes leftovers, or still be open in a child that a killed process was starting
PATIENCE_SEC = 0.5
NO_RESERVING = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


class RunClaimedError(ValueError):
    """Another process is measuring this run_id at this moment."""


@dataclass(frozen=True, slots=True)
class Space:
    """Space on the disk for what one run leaves behind: hidden files that grow no more."""

    _json: IO[bytes]
    _json_path: Path
    _row: IO[bytes]

    def write_json(self, path: Path, data: bytes) -> None:
        """Write the JSON of the run into its reserved space, under a name that must be free; raises OSError."""
        try:
            self._json.write(data)
            self._json.flush()
            self._json.truncate(len(data))
            fill(self._json, b"")
            link_new(self._json_path, path)
        except OSError as error:
            raise OSError(error.errno, f"could not write ({error.strerror})", str(path)) from None

    def release_row(self) -> None:
        """Give the row's space back to the disk, for the append that follows at once."""
        with contextlib.suppress(OSError):
            self._row.truncate(0)


@contextlib.contextmanager
def reserved_space(spec: RunSpec, runs: Path, log_dir: Path) -> Iterator[Space]:
    """Space for the row of a run in the table's folder, and for its JSON in the folder of logs.

    Raises:
        OSError: if there is too little: names the folder.
    """
    make_folder(log_dir)
    make_folder(runs.parent)
    n_epochs = min(spec.most_epochs, MOST_EPOCHS)
    with temporary_file_for(log_dir / "run.json") as (json_file, json_path), temporary_file_for(runs) as (row_file, _):
        _reserve(json_file, JSON_BYTES + JSON_BYTES_PER_EPOCH * n_epochs, log_dir)
        _reserve(row_file, ROW_BYTES + ROW_BYTES_PER_EPOCH * n_epochs, runs.parent)
        yield Space(json_file, json_path, row_file)


def _reserve(file: IO[bytes], n_bytes: int, folder: Path) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        if error.errno not in NO_RESERVING:
            reason = f"no space for what the run will leave behind, {n_bytes / 1024:.0f} KiB ({error.strerror})"
            raise OSError(error.errno, reason, str(folder)) from None


@contextlib.contextmanager
def claimed_run(runs: Path, run_id: str) -> Iterator[None]:
    """The name of a run in its table, for this process alone on this machine, wherever its log lies.

    Raises:
        RunClaimedError: if another process measures it at this moment.
        NoLocksError: if the table's file system has no locks.
    """
    runs = Path(os.path.realpath(runs))  # under whichever name the table is called
    make_folder(runs.parent)
    digest = hashlib.sha256(f"{runs.name} {run_id}".encode(errors="replace")).hexdigest()[:16]
    path = runs.parent / f"{TEMPORARY}{host_and_boot() or 'unknown'}-claim-{digest}"
    give_up = time.monotonic() + PATIENCE_SEC
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if not try_lock(descriptor, path):
                if time.monotonic() < give_up:
                    time.sleep(0.01)
                    continue
                raise RunClaimedError(f"run {run_id} is being measured by another process, into {runs}.")
            if not is_at(path, descriptor):
                continue  # its last owner removed it meanwhile
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
            return
        finally:
            with contextlib.suppress(OSError):  # nothing was written to it
                os.close(descriptor)


@contextlib.contextmanager
def claimed_log(log_dir: Path, run_id: str) -> Iterator[IO[bytes]]:
    """Open the log of a run for appending, and lock it: a run_id is measured by one process at a time.

    Raises:
        RunClaimedError: if another process holds it.
    """
    make_folder(log_dir)
    path = log_dir / f"{run_id}.txt"
    # a pipe would be waited for
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    with os.fdopen(descriptor, "ab", buffering=0) as log:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file: a log can't be kept in it", str(path))
        if not try_lock(descriptor, path):
            raise RunClaimedError(f"run {run_id} is being measured by another process.")
        yield log
