"""A sandbox for tries: a home, a working folder and files that nothing may touch."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.__main__ import main
from tests.fuzz.audit import changes, listing
from tests.fuzz.oracles import PROGRAMS, Call, Heard, nothing_wrong
from tests.fuzz.samples import samples

DATA_BYTES = 3 << 30  # beyond what there is: a runaway read ends in MemoryError, not in all of the box's memory
# ctypes.util.find_library looks for a driver's library with these
FINDERS = frozenset({"ldconfig", "gcc", "cc", "ld", "objdump"})
_UNSET = ("EPOCHCAST_DEBUG", "EPOCHCAST_DATA_DIR", "EPOCHCAST_CACHE_DIR", "KERAS_BACKEND", "XDG_CACHE_HOME")


@dataclass
class Box:
    """Folders of one process: `folder` is emptied before every try, what lies around it must stay as it is."""

    root: Path

    @property
    def folder(self) -> Path:
        """All that a try may touch."""
        return self.root / "try"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        """$TMPDIR."""
        return self.root / "tmp"

    @property
    def cwd(self) -> Path:
        """Deep enough for `../../x` to stay inside."""
        return self.folder / "a" / "b" / "c"

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def empty(self) -> None:
        """A new, empty folder for the next try."""
        os.chdir(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.cwd.mkdir(parents=True)
        os.chdir(self.cwd)

    def around(self) -> dict[str, tuple[int, int, int]]:
        """What lies outside of the try's folder; the temporary folder may be used, but must be left empty."""
        return listing(self.root, but=self.folder)

    def command(
        self,
        *argv: str | Path,
        check: Callable[[Any, Heard], list[str]] = nothing_wrong,
        programs: tuple[str, ...] = (),
    ) -> Call:
        """A command line through the door, in this process."""
        words = tuple(map(str, argv))
        return Call(
            f"epochcast {words[0] if words else ''}",
            lambda: main(list(words)),
            check,
            writes=(self.folder, self.temporary),
            programs=PROGRAMS | FINDERS | frozenset(programs),
            argv=words,
        )

    def keep(self, target: Path, note: str) -> None:
        """Copy the try's files for whoever looks at a fault; what can't be copied is named in the note."""
        target.mkdir(parents=True, exist_ok=True)
        left_out = []

        def ignore(folder: str, names: list[str]) -> list[str]:
            paths = [Path(folder, name) for name in names]
            odd = [path for path in paths if not stat.S_ISDIR(mode := path.lstat().st_mode) and not stat.S_ISREG(mode)]
            left_out.extend(map(str, odd))
            return [path.name for path in odd]

        shutil.copytree(self.folder, target / "files", ignore=ignore, dirs_exist_ok=True)
        (target / "fault.txt").write_text(
            note + "".join(f"not copied: {path}\n" for path in left_out), encoding="utf-8", errors="backslashreplace"
        )


@contextmanager
def sandbox() -> Iterator[Box]:
    """A box in a temporary folder; environment and working folder are as before when it ends."""
    before, where, temporary = dict(os.environ), Path.cwd(), tempfile.tempdir
    limits, flag = resource.getrlimit(resource.RLIMIT_DATA), sys.dont_write_bytecode
    _warm_up()
    with tempfile.TemporaryDirectory(prefix="epochcast-fuzz-") as name:
        box = Box(Path(name).resolve())
        for folder in ("user", "tmp", "decoys"):
            (box.root / folder).mkdir()
        for name, data in (("runs.csv", samples().runs), ("notes.txt", b"mine\n"), ("plan.json", samples().plan)):
            (box.root / "decoys" / name).write_bytes(data)
        (box.root / "user" / "runs.csv").write_bytes(samples().runs)
        try:
            for key in _UNSET:
                os.environ.pop(key, None)
            os.environ.update(EPOCHCAST_HOME=str(box.home), HOME=str(box.root / "user"), TMPDIR=str(box.root / "tmp"))
            os.environ["EPOCHCAST_LOCK_DIR"] = str(box.home / "locks")
            tempfile.tempdir = None
            sys.dont_write_bytecode = True
            resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + DATA_BYTES, limits[1]))
            box.empty()
            yield box
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, limits)
            os.chdir(where)
            os.environ.clear()
            os.environ.update(before)
            tempfile.tempdir, sys.dont_write_bytecode = temporary, flag


def changed_around(box: Box, before: dict[str, tuple[int, int, int]]) -> list[str]:
    return changes(before, box.around())


def _warm_up() -> None:
    """Imports and caches that are no part of any try."""
    import matplotlib.pyplot
    import numpy as np
    import scipy.stats  # noqa: F401

    matplotlib.get_configdir()  # below the home of whoever runs this, not below that of a try
    matplotlib.get_cachedir()
    np.einsum("ij->i", np.ones((1, 1)))
    samples()


def _data_bytes() -> int:
    """The private memory of this process, as RLIMIT_DATA counts it."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
