"""Folders whose files nobody else can have written: what is kept there is run, or taken for measured images.

A cache in a folder that others may write would take their programs and follow their links. Such a folder is not used.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from epochcast.storage.files import open_regular

MOST_LINKS = 40  # on the way to a folder, as Linux follows them


class NotPrivateError(OSError):
    """Somebody else could have written a file, or could replace the folder that it lies in."""


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    Raises:
        NotPrivateError: if one on the way, links included, is another user's or can be written by others.
        OSError: if it can't be made.
    """
    folder = folder.absolute()
    missing = []
    for above in (folder, *folder.parents):
        if above.is_symlink() or above.exists():
            break
        missing.append(above)
    for above in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker
            above.mkdir(mode=0o700)
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raise NotPrivateError unless only this user and root can write a folder, and replace it by another.

    Folders above the user's home are taken as they are: who could write there could do worse.
    """
    _check(folder.absolute(), MOST_LINKS, is_whole=True)


def _check(folder: Path, links_left: int, is_whole: bool) -> None:
    """Check a folder and those above it; `is_whole`: its own files count, not only those below it on the way."""
    if links_left == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
    home = _home()
    for part in (*reversed(folder.parents), folder):
        if home is not None and part in home.parents:
            continue
        info = part.lstat()
        if info.st_uid not in (0, os.geteuid()):
            raise _refusal(part, f"belongs to {_user(info.st_uid)}")
        if stat.S_ISLNK(info.st_mode):
            _check(part.parent / part.readlink(), links_left - 1, is_whole and part == folder)
        elif not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder", str(part))
        # in a folder with the sticky bit, such as /tmp, others may add names, but not change ours
        elif _others_may_write(info) and not (info.st_mode & stat.S_ISVTX and not (is_whole and part == folder)):
            raise _refusal(part, f"can be written by others: chmod go-w {part}")


def open_private(path: Path) -> BinaryIO:
    """A file of a private folder, opened for reading; a link is not followed.

    Raises:
        FileNotFoundError: if there is none.
        NotPrivateError: if it is a link, or others own or may write it.
        OSError: if it can't be read, or is no regular file.
    """
    try:
        file = open_regular(path, follows_links=False)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refusal(path, "is a link") from None
        raise
    info = os.fstat(file.fileno())
    if info.st_uid not in (0, os.geteuid()) or _others_may_write(info):
        file.close()
        raise _refusal(path, "can be written by others")
    return cast(BinaryIO, file)


def read_private(path: Path) -> bytes:
    """The content of a file of a private folder; raises what `open_private` raises."""
    with open_private(path) as file:
        return file.read()


@contextlib.contextmanager
def private_lock_file(path: Path) -> Iterator[int]:
    """The descriptor of an empty file to lock, made where it is missing; a link is not followed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _home() -> Path | None:
    try:
        return Path.home().absolute()
    except RuntimeError:
        return None  # a user without an entry, as in some containers


def _others_may_write(info: os.stat_result) -> bool:
    if info.st_mode & stat.S_IWOTH:
        return True
    return bool(info.st_mode & stat.S_IWGRP) and not _is_own_group(info.st_gid, info.st_uid)


def _is_own_group(gid: int, uid: int) -> bool:
    """Whether a group is a user's own: where each user has one, files are made writable by it."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return group.gr_gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _refusal(path: Path, why: str) -> NotPrivateError:
    return NotPrivateError(errno.EACCES, f"{path} {why}", str(path))
