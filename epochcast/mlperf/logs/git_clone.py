"""Logs in a git clone, read from its object store and never fetched."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from epochcast.machine.git import HOOK_VARIABLES
from epochcast.mlperf.logs.layout import round_in
from epochcast.mlperf.logs.source_file import PART_BYTES, AbsentError, SourceFile
from epochcast.text_sinks import one_line

GIT_FILE_MODES = ("100644", "100755")  # a link or another repository has another mode


def is_repository(folder: Path) -> bool:
    """Return whether a folder is a git repository, with files beside it or bare."""
    is_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return is_bare or (folder / ".git").exists()


@dataclass(frozen=True, slots=True)
class GitSource:
    """The commit that a clone's HEAD names; no file needs to be checked out."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, or its repository's where only that names a round."""
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
        missing = self._missing()
        label, total = self.name, len(entries) or 1
        with self._objects() as objects:
            for i, entry in enumerate(entries):
                head, _, path = entry.partition("\t")
                if not path or (words := head.split())[0] not in GIT_FILE_MODES:
                    continue
                parts = _absent if words[2] in missing else _object_reader(objects, words[2], self.path)
                yield SourceFile(f"{label}/{path}", words[2], i / total, parts)

    def _missing(self) -> set[str]:
        """Return the objects that this clone lacks, which git would fetch if asked."""
        told = self._git("rev-list", "--objects", "--no-walk", "--missing=print", "HEAD").split(b"\n")
        return {line[1:].decode() for line in told if line.startswith(b"?")}

    def _git(self, *arguments: str) -> bytes:
        try:
            found = subprocess.run(
                self._command(*arguments), capture_output=True, env=_git_environment(), stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise ValueError(
                f"{self.path}: a git clone, and git is not installed. Install it, or name a tar."
            ) from None
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


def _absent() -> Iterator[bytes]:
    raise AbsentError
    yield b""  # makes it a generator


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
