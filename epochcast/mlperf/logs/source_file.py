"""What logs are read from, and its files, of which one part is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

PART_BYTES = 1 << 20


class AbsentError(Exception):
    """A file that a repository names and whose content this clone lacks."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source, whose parts are read before the next file's."""

    path: str  # in its source, with `/`
    stamp: str  # another one where the content may have changed
    share: float  # of the source that lies before it
    parts: Callable[[], Iterator[bytes]]  # raises AbsentError


class Source(Protocol):
    """Something that logs are read from."""

    @property
    def name(self) -> str:
        """The name of the folder, repository or file, which may name the round."""

    def files(self) -> Iterator[SourceFile]:
        """Return all regular files, in an order that is the same at every reading."""


def parts_of(file: IO[bytes]) -> Iterator[bytes]:
    """Return the content of an opened file by parts."""
    while part := file.read(PART_BYTES):
        yield part


def total_of(parts: Iterator[bytes], most: int) -> bytes:
    """Return the first `most` bytes of a file's parts; the rest is read and dropped."""
    kept: list[bytes] = []
    left = most
    for part in parts:
        if left > 0:
            kept.append(part[:left])
            left -= len(kept[-1])
    return b"".join(kept)
