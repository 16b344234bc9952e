"""Whole files: read only where they are regular, made or replaced at once or not at all, and named by their hash."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from epochcast.storage.file_kinds import refuse_another_kind
from epochcast.storage.locks import NoLocksError, try_lock

NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # psutil knows the time of the boot alone, which clocks shift
TEMPORARY = ".epochcast-"  # begins the name of every temporary file beside the file that it will be
_swept: set[Path] = set()


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


def fill(file: IO[bytes], data: bytes) -> None:
    """Write the content of a temporary file: on the disk when this returns, with the rights that any new file has."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(file.fileno(), 0o666 & ~umask)  # it is made for its owner alone


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
        with temporary_beside(path) as (file, temporary):
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
    with naming(path), temporary_beside(path) as (file, temporary):
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


# --- temporary files -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
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


# --- hashes ----------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
