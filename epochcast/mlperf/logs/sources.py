"""Where logs lie: a folder, a git clone or a tar.

Nothing is unpacked to the disk and no link is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from epochcast.mlperf.logs.git_clone import GitSource, is_repository
from epochcast.mlperf.logs.source_file import Source, SourceFile, parts_of
from epochcast.mlperf.logs.tar_archive import TarSource, is_tar
from epochcast.storage.files import open_regular


def open_source(path: Path) -> Source:
    """Return the source at a path.

    Raises:
        OSError: if there is nothing, or it can't be read.
        ValueError: if it is neither a folder nor a tar.
    """
    if path.is_dir():
        return GitSource(path) if is_repository(path) else FolderSource(path)
    with open_regular(path) as file:
        if not is_tar(file):
            raise ValueError(
                f"{path}: neither a folder nor a tar. Name a folder of results, a git clone of a results repository, "
                "or a .tar, .tar.gz, .tar.xz or .tar.bz2 of them."
            )
    return TarSource(path)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder; clones below it are read as clones."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.absolute().name

    def files(self) -> Iterator[SourceFile]:
        found, clones = self._listed()
        total = (len(found) + len(clones)) or 1
        for i, path in enumerate(found):
            inner = path.relative_to(self.path).as_posix()
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield SourceFile(inner, f"{status.st_size} {status.st_mtime_ns}", i / total, _reader_of(path))
        for i, clone in enumerate(clones, start=len(found)):
            folder = clone.relative_to(self.path).parent.as_posix()
            for file in GitSource(clone).files():
                inner = file.path if folder == "." else f"{folder}/{file.path}"
                yield SourceFile(inner, file.stamp, (i + file.share) / total, file.parts)

    def _listed(self) -> tuple[list[Path], list[Path]]:
        files, clones = [], []
        for top, folders, names in os.walk(self.path, onerror=_raise):
            inner = [Path(top, name) for name in sorted(folders)]
            own = [path for path in inner if is_repository(path)]
            clones += own
            folders[:] = [path.name for path in inner if path not in own]
            files += [Path(top, name) for name in sorted(names)]
        return files, sorted(clones)


def _raise(error: OSError) -> None:
    raise error


def _reader_of(path: Path) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        with open_regular(path, follows_links=False) as file:
            yield from parts_of(file)

    return parts
