"""The files in a tar of any origin, read into memory within bounds: a small archive can't fill it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from epochcast.storage.files import open_regular
from epochcast.workload.dataset import MIB, most_unpacked

MOST_AT_ONCE = 4 * MIB  # tarfile reads a header of any size at once; the content of a file we read by parts
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}  # by a file's first bytes


class _TooMuchError(ValueError):
    """More is unpacked than a bound."""


class _Bounded(io.RawIOBase):
    """A stream that ends in an error where more is unpacked than a bound."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > MOST_AT_ONCE:
            raise ValueError(f"a header of more than {MOST_AT_ONCE // MIB} MiB")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, offset: int) -> None:
        if offset > self._most + tarfile.RECORDSIZE:  # tars end in up to a record of nothing
            raise _TooMuchError(f"it unpacks to more than {self._most // MIB} MiB")


def _open(stream: IO[bytes], most: int) -> tarfile.TarFile:
    stream.seek(0)
    start = stream.read(8)
    stream.seek(0)
    unpack: Any = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    unpacked = stream if unpack is None else unpack(stream)
    return tarfile.open(fileobj=_Bounded(unpacked, most), mode="r:")  # the caller's `with` closes it


def is_tar(stream: IO[bytes]) -> bool:
    """Whether a file begins as a tar does, whatever its compression."""
    try:
        with _open(stream, most_unpacked(stream)):
            return True
    except Exception:  # tarfile and the compressions raise many kinds
        return False


def read_tar(path: Path, is_useful: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """The regular files of a tar, in memory: nothing in it can reach the disk. Files of no use to us come empty.

    Raises:
        ValueError: if it is broken, or unpacks to more than `most_unpacked`.
    """
    sys.stderr.write(f"reading {path}\n")
    files: dict[str, bytes] = {}
    try:
        with open_regular(path) as stream, _open(stream, most := most_unpacked(stream)) as tar:
            total = 0
            while (member := tar.next()) is not None:
                vars(tar)["members"].clear()  # of any number, and not asked for again
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                files[name.as_posix()] = b""
                if is_useful(name):
                    total += member.size  # also of a sparse file, whose holes stand nowhere
                    if total > most:
                        raise _TooMuchError(f"it unpacks to more than {most // MIB} MiB")
                    files[name.as_posix()] = _content(tar, member)
    except _TooMuchError as error:
        raise ValueError(f"{path}: {error}. If it is yours, unpack it and name the folder.") from None
    except Exception as error:  # tarfile and the compressions raise many kinds
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: the archive is broken ({reason}). Delete it, then fetch it again.") from error
    return files


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # it is regular
    with file:
        parts = iter(lambda: file.read(MIB), b"")
        content = b"".join(parts)
    if len(content) != member.size:
        raise ValueError(f"{member.name} is cut short")
    return content
