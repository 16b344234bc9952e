"""Whole files: made or replaced at once or not at all, and named by their hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any

NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        NotADirectoryError: if a file is in the way; it is named.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(parent for parent in (folder, *folder.parents) if parent.exists())
        raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder", str(file)) from None


def fill(file: IO[bytes], data: bytes) -> None:
    """Write the content of a temporary file: on the disk when this returns, with the rights that any new file has."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(file.fileno(), 0o666 & ~umask)  # `tempfile` leaves it to its owner alone


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Replace a whole file: a reader sees the old one or the new one, never a part.

    Raises:
        OSError: if the folder can't be written (the path stands in the message).
    """
    path = path.resolve()  # through a link: what it points to is replaced, not the link
    make_folder(path.parent)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                fill(file, data)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:  # of the temporary file, whose name says nothing to a user
        raise OSError(error.errno, f"could not write ({error.strerror})", str(path)) from None


def write_text_atomically(path: Path, text: str) -> None:
    """`write_bytes_atomically` for UTF-8 text."""
    write_bytes_atomically(path, text.encode())


def write_json_atomically(path: Path, value: Any) -> None:
    """`write_bytes_atomically` for a JSON value, indented; NaN and infinities are refused."""
    write_text_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_new_file(path: Path, data: bytes) -> None:
    """Make a file that must not exist yet: a reader sees it whole or not at all.

    Raises:
        FileExistsError: if there is one.
        OSError: if the folder can't be written.
    """
    make_folder(path.parent)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
        fill(file, data)
        link_new(Path(file.name), path)


def link_new(source: Path, path: Path) -> None:
    """Give a file a second name, which must not exist yet; on the disk when this returns.

    On a file system without hard links it is a copy, which a kill could cut short.

    Raises:
        FileExistsError: if the name is taken.
        OSError: if the folder can't be written.
    """
    try:
        try:
            path.hardlink_to(source)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            with path.open("xb") as file:
                file.write(source.read_bytes())
                file.flush()
                os.fsync(file.fileno())
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "exists already, and is not overwritten", str(path)) from None
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Push a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
