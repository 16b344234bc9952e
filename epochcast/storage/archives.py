"""Zip archives of any origin (`.keras`, `.npz`), unpacked within bounds: a small file can't fill the memory."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from typing import IO

MOST_MEMBERS = 10_000
MOST_DIRECTORY = 2 << 20  # bytes of the list of members, which zipfile reads whole before it counts them
BOUNDED_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # zipfile unpacks the others by whole blocks of any size
MIB = 1 << 20
NO_END = "File is not a zip file"  # what zipfile says where the list of members, which stands last, is not found


class _Bounded:
    """A file that refuses reads of more than MOST_DIRECTORY bytes at once: zipfile trusts the sizes in an archive."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seekable, self.seek, self.tell, self.close = file.seekable, file.seek, file.tell, file.close

    def read(self, n: int = -1) -> bytes:
        if n > MOST_DIRECTORY:
            raise ValueError(f"the archive lists its files in more than {MOST_DIRECTORY / MIB:.0f} MiB")
        return self._file.read(n if n >= 0 else MOST_DIRECTORY)  # all that is left: the 22 bytes of the archive's end


class TooLargeError(ValueError):
    """A file in an archive is larger than what is unpacked here."""


@contextlib.contextmanager
def open_archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A zip archive for `read_member`.

    Raises:
        ValueError: if it is none, or is damaged; the message is the bare reason. Also for what its block meets in it.
    """
    try:
        with zipfile.ZipFile(_Bounded(file)) as archive:  # type: ignore[arg-type]  # it takes what reads, tells and seeks
            if len(archive.infolist()) > MOST_MEMBERS:
                raise ValueError(f"the archive holds {len(archive.infolist())} files, more than {MOST_MEMBERS}")
            yield archive
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        reason = str(error) or type(error).__name__
        if reason == NO_END:
            reason = "its end is missing"
        raise ValueError(f"the archive is damaged ({reason})") from None


def check_member(archive: zipfile.ZipFile, name: str, most: int) -> zipfile.ZipInfo:
    """The entry of a member that unpacks to at most `most` bytes, whatever its data are.

    Raises:
        ValueError: if it is missing, stands twice, is encrypted or packed otherwise, or says that it is larger.
    """
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        raise ValueError(f"the archive holds {name} twice" if found else f"the archive holds no {name}")
    (info,) = found
    if info.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in BOUNDED_METHODS:
        raise ValueError(f"{name} is packed by method {info.compress_type}, neither stored nor deflated")
    if info.file_size > most:
        raise TooLargeError(f"{name} unpacks to {info.file_size / MIB:,.0f} MiB, more than {most / MIB:,.0f}")
    return info


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member's content; raises what `check_member` and `open_archive` raise."""
    info = check_member(archive, name, most)
    parts = []
    with archive.open(info) as file:  # by parts: read() at once unpacks all that is there before it looks at the size
        while part := file.read(MIB):
            parts.append(part)
    return b"".join(parts)
