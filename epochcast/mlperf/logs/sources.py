"""Where logs lie: a folder, a git clone or a tar; each gives its files one after the other, by parts.

Nothing is unpacked to the disk, no link is followed, and of a file only one part is in memory at a time.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from epochcast.machine.git import HOOK_VARIABLES
from epochcast.mlperf.logs.layout import round_in
from epochcast.storage.files import open_regular
from epochcast.text_sinks import one_line

PART_BYTES = 1 << 20
MOST_HEADER_BYTES = 4 << 20  # of a tar's member; tarfile reads a header of any size at once
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}  # by a file's first bytes
GIT_FILE_MODES = ("100644", "100755")  # a link or another repository has another mode
BROKEN = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


class AbsentError(Exception):
    """A file that a repository names and whose content this clone lacks."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source. Its parts have to be read before the next file is asked for."""

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


def open_source(path: Path) -> Source:
    """Return the source at a path.

    Raises:
        OSError: if there is nothing, or it can't be read.
        ValueError: if it is neither a folder nor a tar.
    """
    if path.is_dir():
        return GitSource(path) if is_repository(path) else FolderSource(path)
    with open_regular(path) as file:
        if not _is_tar(file):
            raise ValueError(
                f"{path}: neither a folder nor a tar. Name a folder of results, a git clone of a results repository, "
                "or a .tar, .tar.gz, .tar.xz or .tar.bz2 of them."
            )
    return TarSource(path)


def _parts_of(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(PART_BYTES):
        yield part


# --- folders ----------------------------------------------------------------------------------------------------------


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
            yield from _parts_of(file)

    return parts


# --- git clones -------------------------------------------------------------------------------------------------------


def is_repository(folder: Path) -> bool:
    """Return whether a folder is a git repository, with files beside it or bare."""
    is_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return is_bare or (folder / ".git").exists()


@dataclass(frozen=True, slots=True)
class GitSource:
    """The commit that a clone's HEAD names, read from its object store; no file needs to be checked out."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, or the name of the repository that it was cloned from where only that names a round."""
        folder = self.path.absolute()
        own = folder.parent.name if folder.name == ".git" else folder.name.removesuffix(".git")
        if round_in(own) is not None:
            return own
        with contextlib.suppress(ValueError):
            origin = self._git("config", "--get", "remote.origin.url").decode(errors="replace").strip()
            cloned = origin.rstrip("/").rpartition("/")[2].removesuffix(".git")
            return cloned if round_in(cloned) is not None else own
        return own

    def files(self) -> Iterator[SourceFile]:
        entries = [entry.decode(errors="replace") for entry in self._git("ls-tree", "-r", "-z", "HEAD").split(b"\0")]
        label, total = self.name, len(entries) or 1
        with self._objects() as objects:
            for i, entry in enumerate(entries):
                head, _, path = entry.partition("\t")
                if not path or (words := head.split())[0] not in GIT_FILE_MODES:
                    continue
                yield SourceFile(f"{label}/{path}", words[2], i / total, _object_reader(objects, words[2], self.path))

    def _git(self, *arguments: str) -> bytes:
        found = subprocess.run(
            self._command(*arguments), capture_output=True, env=_git_environment(), stdin=subprocess.DEVNULL
        )
        if found.returncode != 0:
            said = one_line(found.stderr.decode(errors="replace").strip())[:200] or f"exit code {found.returncode}"
            raise ValueError(f"{self.path}: git {arguments[0]} failed: {said}. Clone it again, or name another folder.")
        return found.stdout

    def _command(self, *arguments: str) -> list[str]:
        return ["git", "--no-optional-locks", "-C", str(self.path), *arguments]

    @contextlib.contextmanager
    def _objects(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            self._command("cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_git_environment(),
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _git_environment() -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    # what a partial clone lacks is counted as absent, not fetched
    return environ | {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0"}


def _object_reader(process: subprocess.Popen[bytes], name: str, repository: Path) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        asked, answers = process.stdin, process.stdout
        if asked is None or answers is None:  # both are pipes
            raise ValueError(f"{repository}: git cat-file has no pipes.")
        try:
            asked.write(f"{name}\n".encode())
            asked.flush()
            head = answers.readline().split()
        except BrokenPipeError:
            head = []
        if head[1:] == [b"missing"]:
            raise AbsentError
        if len(head) != 3:
            raise ValueError(f"{repository}: git cat-file ended at object {name}. Check the clone: git fsck")
        left = int(head[2]) + 1  # a line end follows
        while left > 1 and (part := answers.read(min(left - 1, PART_BYTES))):
            left -= len(part)
            yield part
        if answers.read(1) != b"\n":
            raise ValueError(f"{repository}: git cat-file ended in object {name}. Check the clone: git fsck")

    return parts


# --- tars -------------------------------------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """A stream that refuses to be read in very large parts: tarfile trusts the sizes in a header."""

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


def _is_tar(file: IO[bytes]) -> bool:
    try:
        with _open_tar(file):
            return True
    except BROKEN:
        return False


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """A block that reads from a tar; what it meets in a damaged one becomes a ValueError that says so."""
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
                    yield from _parts_of(file)

        return parts

    def _check_end(self, tar: tarfile.TarFile) -> None:
        """Raise where the zeros are missing that end every tar: tarfile takes a cut between files for an end."""
        stream: Any = tar.fileobj
        stream.seek(tar.offset)
        if len(stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")


def total_of(parts: Iterator[bytes], most: int) -> bytes:
    """Return the first `most` bytes of a file's parts; the rest is read and dropped."""
    kept: list[bytes] = []
    left = most
    for part in parts:
        if left > 0:
            kept.append(part[:left])
            left -= len(kept[-1])
    return b"".join(kept)
