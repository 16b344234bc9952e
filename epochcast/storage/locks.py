"""Advisory locks that are waited for with a word and an end, and what file systems do to them.

`flock` is missing on some file systems, and on others it holds on one machine only: both are named, with the way out.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochcast.machine.host.host import ask_psutil

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SEC = 60.0
NOTICE_SEC = 2.0  # waited in silence before a lock is named
POLL_SEC = 0.002
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
# mount options that keep a lock on one machine, by file system: nfs(5), mount.lustre(8), mount.cifs(8)
_LOCAL_OPTIONS = {
    "nfs": ("local_lock=all", "local_lock=flock", "nolock"),
    "nfs4": ("local_lock=all", "local_lock=flock", "nolock"),
    "lustre": ("localflock",),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
}
_LOCAL_TYPES = ("fuse.sshfs", "fuse.bindfs", "fuse.rclone", "fuse.s3fs", "fuse.goofys", "vboxsf", "9p")


_warned: set[Path] = set()


class NoLocksError(OSError):
    """The file system has no locks."""


def lock(descriptor: int, path: Path, *, is_shared: bool = False) -> None:
    """Lock an open file, waiting for whoever holds it; after two seconds the wait is reported.

    Raises:
        TimeoutError: if it is still locked after LOCK_TIMEOUT_SEC.
        NoLocksError: if the file system has no locks.
    """
    start = time.monotonic()
    has_said = False
    while not try_lock(descriptor, path, is_shared=is_shared):
        waited_sec = time.monotonic() - start
        if waited_sec > LOCK_TIMEOUT_SEC:
            raise TimeoutError(
                f"{path}: locked by another process for {LOCK_TIMEOUT_SEC:.0f} s. "
                "End the program that holds it, then try again."
            )
        if waited_sec > NOTICE_SEC and not has_said:
            logger.warning("%s: waiting for another process that has locked it, at most %.0f s", path, LOCK_TIMEOUT_SEC)
            has_said = True
        time.sleep(POLL_SEC)


def try_lock(descriptor: int, path: Path, *, is_shared: bool = False) -> bool:
    """Lock an open file if nobody else holds it; False if somebody does.

    Raises:
        NoLocksError: if the file system has no locks.
        OSError: if the lock fails otherwise.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(error.errno, f"could not be locked ({error.strerror})", str(path)) from None
        raise NoLocksError(
            error.errno,
            "this file system has no locks, so rows could be lost. Put the table and the logs on a local disk "
            "(--runs PATH --log_dir PATH)",
            str(path),
        ) from None
    return True


def warn_of_local_locks(path: Path) -> None:
    """Warn, once per folder, where locks hold on this machine only, so that two machines may not write there."""
    if path.parent not in _warned and (reason := local_locks(path.parent)) is not None:
        _warned.add(path.parent)
        logger.warning(
            "%s: locks work on this machine only there (%s). Append from one machine at a time, or put the table on a "
            "local disk (--runs PATH).",
            path.parent,
            reason,
        )


@functools.cache
def local_locks(folder: Path) -> str | None:
    """Why locks of a folder work on one machine only; None where they work everywhere, or nothing is known."""
    mounts = ask_psutil(lambda psutil: psutil.disk_partitions(all=True))
    if not mounts:
        return None
    kind, options = _mount_of(os.path.realpath(folder), mounts)
    if kind in _LOCAL_TYPES:
        return f"a file system of type {kind}"
    found = [option for option in _LOCAL_OPTIONS.get(kind, ()) if option in options]
    return f"a file system of type {kind}, mounted with {found[0]}" if found else None


def _mount_of(folder: str, mounts: Sequence[Any]) -> tuple[str, list[str]]:  # Any: psutil's, which has no types
    """Return the type and the options of the file system that holds `folder`."""
    best, kind, options = "", "", list[str]()
    for mount in mounts:
        point = mount.mountpoint
        is_above = folder == point or folder.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):  # of two mounts on one folder the later one is seen
            best, kind, options = point, mount.fstype, mount.opts.split(",")
    return kind, options
