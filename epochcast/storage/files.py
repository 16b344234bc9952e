"""Whole files: read only where they are regular, made or replaced at once or not at all, and named by their hash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from epochcast.storage.file_kinds import MOST_BYTES, START_BYTES, is_json, kind_of
from epochcast.storage.temporary_files import fill, remove_leftovers, temporary_file_for

NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


# --- reading ---------------------------------------------------------------------------------------------------------


def open_regular(path: Path, *, follows_links: bool = True) -> IO[bytes]:
    """A file opened for reading; a pipe or a device is refused at once instead of being waited for.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW))
    remove_leftovers(path.parent)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a regular file: save its content to a file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path) -> bytes:
    """The content of a regular file; raises what `open_regular` raises."""
    with naming(path), open_regular(path) as file:
        return read_some(file)


def read_some(file: IO[bytes], n: int = -1) -> bytes:
    """At most `n` bytes of an opened file, all that follow if below 0; OSError where a pseudo-file has none yet."""
    data: bytes | None = file.read(n)
    if data is None:  # of a file that is not waited for: some of /proc say that they are regular
        raise OSError(errno.EAGAIN, "a source of data to come, not a regular file: save its content to a file")
    return data


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A block whose OSErrors say which file they are about, also where the system does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file, without its byte order mark; line ends stay as they are.

    Raises:
        OSError: as `open_regular`.
        ValueError: if it is not UTF-8: names the file, the line and the cause.
    """
    return decode_text(read_bytes(path), path)


def decode_text(raw: bytes, path: Path) -> str:
    """UTF-8 text, without its byte order mark; ValueError names `path`, the line and the cause."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError(f"{path.absolute()}:1: UTF-16 text. Save the file as UTF-8.") from None
        offset = error.start + len(raw) - len(error.object)  # `object` lacks the byte order mark
        line = raw.count(b"\n", 0, offset) + 1
        raise ValueError(
            f"{path.absolute()}:{line}: not UTF-8 text: byte 0x{raw[offset]:02x} at offset {offset}. "
            "Save the file as UTF-8."
        ) from None


# --- folders ---------------------------------------------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; the names of new ones are on the disk when this returns.

    Raises:
        NotADirectoryError: if a file is in the way; it is named.
    """
    if folder.is_dir():
        return
    missing = []
    for above in (folder, *folder.parents):
        if above.exists():
            break
        missing.append(above)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(parent for parent in (folder, *folder.parents) if parent.exists())
        raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder", str(file)) from None
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Push a folder's names to the disk, where the file system can."""
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # fsync(2): the file system has no synchronising of folders
                raise
        finally:
            os.close(descriptor)


# --- writing ---------------------------------------------------------------------------------------------------------


def refuse_another_kind(path: Path, data: bytes) -> None:
    """Raise unless `data` may replace what stands at `path`: nothing, an empty file, or a file of the same kind.

    Raises:
        ValueError: names both kinds.
    """
    try:
        with naming(path), open_regular(path) as file:
            start = read_some(file, START_BYTES)
            more = read_some(file, MOST_BYTES if is_json(start) else 1)
    except FileNotFoundError:
        return
    if (start + more).strip() in (b"", b"[]", b"{}"):
        return
    found, new = kind_of(start + more), kind_of(data)
    if not new.may_replace(found):
        by = new.words if found.words != new.words else "one of other names"
        raise ValueError(
            f"{path} is {found.words}, and is not replaced by {by}. Name another file, or move this one away first."
        )


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Replace a whole file: a reader sees the old one or the new one, never a part.

    Raises:
        ValueError: if a file of another kind stands there, a table of measurements for one: it is left alone.
        OSError: if the folder can't be written (the path stands in the message).
    """
    path = path.resolve()  # through a link: what it points to is replaced, not the link
    make_folder(path.parent)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    refuse_another_kind(path, data)
    try:
        with temporary_file_for(path) as (file, temporary):
            fill(file, data)
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:  # of the temporary file, whose name says nothing to a user
        raise OSError(error.errno, f"could not write ({error.strerror})", str(path)) from None


def write_text_atomically(path: Path, text: str) -> None:
    """`write_bytes_atomically` for UTF-8 text."""
    write_bytes_atomically(path, text.encode())


def json_bytes(value: Any) -> bytes:
    """A JSON value as our files hold it: indented, a line end last; NaN and infinities are refused."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def write_json_atomically(path: Path, value: Any) -> None:
    """`write_bytes_atomically` for a JSON value, indented; NaN and infinities are refused."""
    write_bytes_atomically(path, json_bytes(value))


def write_new_file(path: Path, data: bytes) -> None:
    """Make a file that must not exist yet: a reader sees it whole or not at all.

    Raises:
        FileExistsError: if there is one.
        OSError: if the folder can't be written.
    """
    make_folder(path.parent)
    with naming(path), temporary_file_for(path) as (file, temporary):
        fill(file, data)
        link_new(temporary, path)


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


# --- hashes ----------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
