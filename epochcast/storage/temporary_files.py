"""Temporary files next to the file that they become, and the removal of leftovers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from epochcast.storage.locks import NoLocksError, try_lock

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # psutil knows the time of the boot alone, which clocks shift
TEMPORARY = ".epochcast-"  # begins the name of every temporary file
_swept: set[Path] = set()


def fill(file: IO[bytes], data: bytes) -> None:
    """Write the content of a temporary file: on the disk when this returns, with the rights that any new file has."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(file.fileno(), 0o666 & ~umask)  # it is made for its owner alone


@contextlib.contextmanager
def temporary_file_for(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new hidden file in the folder of `path`, locked while it is open, and removed unless it was renamed.

    Leftovers of processes that were killed, in that folder, are removed first.
    """
    remove_leftovers(path.parent)
    while True:
        name = path.parent / f"{TEMPORARY}{host_and_boot() or 'unknown'}-{os.urandom(8).hex()}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "wb")
        try:
            try:
                is_ours = try_lock(descriptor, name) and is_at(name, descriptor)
            except NoLocksError:  # then nobody removes leftovers either
                is_ours = True
            if not is_ours:
                continue  # a sweeper had the lock first, and is about to remove it
            try:
                yield file, name
            finally:
                with contextlib.suppress(OSError):
                    if is_at(name, descriptor):
                        name.unlink()
            return
        finally:
            with contextlib.suppress(OSError):  # `fill` has pushed what counts; closing would try what failed again
                file.close()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of dead processes from a folder, once per process.

    Only files that were made on this host since it booted and whose lock is free: a process id says nothing, since
    another container, or another machine on a shared disk, counts its own.
    """
    if folder in _swept or (mark := host_and_boot()) is None:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(f"{TEMPORARY}{mark}-") and entry.is_file(follow_symlinks=False):
                _remove_if_free(Path(entry.path))


def _remove_if_free(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if try_lock(descriptor, path) and is_at(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@functools.cache
def host_and_boot() -> str | None:
    """A short mark of this machine and of its running since the last boot; None where the kernel names no boot."""
    try:
        boot = BOOT_ID.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return hashlib.sha256(f"{os.uname().nodename} {boot}".encode()).hexdigest()[:12]
