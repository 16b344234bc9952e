"""Logs in a tar, read once from end to end without touching the disk."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from epochcast.mlperf.logs.source_file import SourceFile, parts_of
from epochcast.storage.files import open_regular
from epochcast.text_sinks import one_line

MOST_HEADER_BYTES = 4 << 20  # of a tar's member; tarfile reads a header of any size at once
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}  # by a file's first bytes
BROKEN = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


class _Bounded(io.RawIOBase):
    """A stream that refuses very large reads: tarfile trusts sizes in headers."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > MOST_HEADER_BYTES:
            raise ValueError(f"a header of more than {MOST_HEADER_BYTES >> 20} MiB")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _open_tar(file: IO[bytes]) -> tarfile.TarFile:
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    unpack: Any = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    return tarfile.open(fileobj=_Bounded(file if unpack is None else unpack(file)), mode="r:")


def is_tar(file: IO[bytes]) -> bool:
    """Return whether a file begins as a tar does, whatever its compression."""
    try:
        with _open_tar(file):
            return True
    except BROKEN:
        return False


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """A block that reads a tar; a damaged one is a ValueError that says so."""
    try:
        yield
    except BROKEN as error:
        reason = one_line(str(error))[:100] or type(error).__name__
        raise ValueError(f"{path}: the tar is cut short or damaged ({reason}). Fetch it again.") from None


@dataclass(frozen=True, slots=True)
class TarSource:
    """A tar, plain or compressed, read once from its beginning to its end."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def files(self) -> Iterator[SourceFile]:
        with open_regular(self.path) as raw, _naming_damage(self.path), _open_tar(raw) as tar:
            size = os.fstat(raw.fileno()).st_size or 1
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all; typeshed lacks the attribute
                if member.isreg():
                    path = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                    # a decompressor reads ahead: the end of the file isn't the end of the work
                    share = 0.99 * raw.tell() / size
                    yield SourceFile(path, f"{member.size} {member.mtime}", share, self._reader_of(tar, member))
            self._check_end(tar)

    def _reader_of(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], Iterator[bytes]]:
        def parts() -> Iterator[bytes]:
            with _naming_damage(self.path):
                file = tar.extractfile(member)
                if file is not None:
                    yield from parts_of(file)

        return parts

    def _check_end(self, tar: tarfile.TarFile) -> None:
        """Raise where the zeros that end a tar are missing: tarfile does not notice."""
        stream: Any = tar.fileobj
        stream.seek(tar.offset)
        if len(stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")
