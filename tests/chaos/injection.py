"""File calls that fail, kill their process, or find the disk full: `inject.c` before libc, armed in forked children.

It counts the calls below one folder only, so that number n means the same call in every try.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("inject.c")
# of the environment of a process that was begun with the library, or should have been
LIBRARY, WHY_NOT = "EPOCHCAST_CHAOS_LIBRARY", "EPOCHCAST_CHAOS_WHY_NOT"
CALLS = (
    "write",
    "fsync",
    "rename",
    "link",
    "unlink",
    "open",
    "flock",
    "ftruncate",
    "mkdir",
    "statvfs",
    "close",
    "read",
)
LETTERS = "wsrluofTmvcR"  # of the calls, in the library's log
COUNT, FAIL, KILL, FULL = range(4)
HALF, NOTHING = -1, -2  # of a write that a kill or a full disk stops

# what each call really fails with, on local disks and on shared ones
ERRORS = {
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINTR),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "rename": (errno.EIO, errno.ENOSPC, errno.EACCES),
    "link": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EPERM),
    "unlink": (errno.EIO, errno.EACCES),
    "open": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EINTR),
    "flock": (errno.ENOLCK, errno.EIO, errno.EINTR),
    "ftruncate": (errno.EIO, errno.EINTR),
    "mkdir": (errno.EIO, errno.ENOSPC, errno.EACCES),
    "statvfs": (errno.EIO, errno.EACCES),
    "close": (errno.EIO, errno.ENOSPC),
    "read": (errno.EIO,),
}


class Call(NamedTuple):
    """One file call: which, and of which path below the folder."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name} of {self.path}"


@dataclass(frozen=True, slots=True)
class Injection:
    """What is to happen at the n-th call below `folder`; n = 0 only counts."""

    folder: Path
    n: int = 0
    action: int = COUNT
    error: int = errno.ENOSPC
    kept: int = HALF  # bytes of the write that is stopped
    calls: tuple[str, ...] = tuple(name for name in CALLS if name != "read")

    def arm(self) -> None:
        mask = sum(1 << CALLS.index(name) for name in self.calls)
        _library().chaos_arm(
            os.fsencode(self.folder.resolve()), mask, ctypes.c_long(self.n), self.action, self.error,
            ctypes.c_long(self.kept),
        )  # fmt: skip

    @staticmethod
    def disarm() -> list[Call]:
        """The calls that were counted, in their order."""
        library = _library()
        library.chaos_log.restype = ctypes.c_char_p
        lines = os.fsdecode(library.chaos_log()).splitlines()
        return [Call(CALLS[LETTERS.index(line[0])], line[1:].removeprefix("/")) for line in lines]


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ[LIBRARY])


def missing() -> str:
    """Why no call can be made to fail in this process; empty where one can."""
    return "" if LIBRARY in os.environ else os.environ.get(WHY_NOT, "begun without the library")


def environment_with_library(folder: Path) -> dict[str, str]:
    """The environment of a process to be begun with the library, built in `folder`; where it can't be, it says why."""
    library = folder / "inject.so"
    why_not = _build(library)
    more = {WHY_NOT: why_not} if why_not else {"LD_PRELOAD": str(library), LIBRARY: str(library)}
    return {**os.environ, **more}


def _build(library: Path) -> str:
    """Build the library; why it can't be used, empty where it can."""
    if not sys.platform.startswith("linux"):
        return "faults are injected on Linux only"
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "no C compiler to build what injects faults"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        return f"{compiler} can't build {SOURCE.name}: {built.stderr[:200]}"
    probe = [sys.executable, "-c", "import ctypes; ctypes.CDLL(None).chaos_log"]
    loaded = subprocess.run(probe, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True)
    return "" if loaded.returncode == 0 else "the system loads no library before libc"
