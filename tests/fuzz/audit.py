"""What a call touches: writes, network and processes by Python's audit events, and files that changed all the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_EVENTS = {  # event: which of its arguments are paths that change
    "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "os.setxattr": (0,), "os.mkfifo": (0,),
    "shutil.rmtree": (0,), "shutil.move": (0, 1), "tempfile.mkdtemp": (0,), "tempfile.mkstemp": (0,),
}  # fmt: skip
_NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")


class OutsideError(PermissionError):
    """A write that is not allowed; refused, so that no fault of a product harms the machine that looks for it."""


@dataclass
class _Watch:
    """The one audit hook of this process; it can't be taken away, only told to look away."""

    is_on: bool = False
    allowed: list[str] = field(default_factory=list)
    programs: frozenset[str] = frozenset()
    seen: list[str] = field(default_factory=list)
    is_installed: bool = False

    def note(self, what: str) -> None:
        self.seen.append(what)
        raise OutsideError(f"fuzz: {what}")

    def look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING and not isinstance(path, int):
                self._check(path, "writes")
        elif event == "os.mkdir" and os.path.lexists(arguments[0]):
            return  # nothing is made
        elif event in _PATH_EVENTS:
            for i in _PATH_EVENTS[event]:
                if not isinstance(arguments[i], int):
                    self._check(arguments[i], event)
        elif event in _NETWORK:
            self.note(f"uses the network: {event}")
        elif event in _PROCESSES:
            program = Path(os.fsdecode(arguments[0])).name if isinstance(arguments[0], str | bytes | Path) else event
            if program not in self.programs:
                self.note(f"starts a process: {event} {arguments[0]!r}")

    def _check(self, path: Any, how: str) -> None:
        if path is None:
            return
        try:
            # the folder's links are followed, the name itself is what is made or removed
            named = Path.cwd() / os.fsdecode(path)
            real = str(Path(os.path.realpath(named.parent)) / named.name)
        except (TypeError, ValueError):
            return  # the call itself refuses it
        if real == "/dev/null" or any(real == root or real.startswith(root + os.sep) for root in self.allowed):
            return
        self.note(f"{how} {real!r}")


_watch = _Watch()


@contextmanager
def watched(allowed: Sequence[Path], programs: frozenset[str]) -> Iterator[list[str]]:
    """Refuse and note writes outside of the `allowed` folders and files, the network, and other programs."""
    if not _watch.is_installed:
        sys.addaudithook(_watch.look)
        _watch.is_installed = True
    _watch.allowed = [os.path.realpath(path) for path in allowed]
    _watch.programs, _watch.seen, _watch.is_on = programs, [], True
    try:
        yield _watch.seen
    finally:
        _watch.is_on = False


@contextmanager
def unwatched() -> Iterator[None]:
    """The harness's own work in the midst of a call."""
    before, _watch.is_on = _watch.is_on, False
    try:
        yield
    finally:
        _watch.is_on = before


def listing(folder: Path, but: Path | None = None) -> dict[str, tuple[int, int, int]]:
    """Every file and folder below one, with inode, size and time; those below `but` are left out."""
    found = {}
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if but is not None and entry.path == str(but):
                    continue
                seen = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):  # its time tells what came and went, which is no harm
                    found[entry.path] = (seen.st_ino, 0, 0)
                    waiting.append(entry.path)
                else:
                    found[entry.path] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return found


def changes(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> list[str]:
    """What differs between two listings, in words."""
    return [
        f"{'made' if path not in before else 'removed' if path not in after else 'changed'} {path!r}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]
