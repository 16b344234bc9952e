"""A made-up host: what `machine.host_load` reads of the kernel says that other programs keep so many cores busy.

Only the folder /proc is replaced, as seen by that one module: none of our own processes is in it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from epochcast.machine import host_load
from epochcast.machine.host import usable_cores

VARIABLE = "MADE_UP_HOST_CORES"  # for processes that a test starts


class MadeUpProc:
    """The folder /proc of a host whose other programs use `cores()` cores, read when it is asked for."""

    def __init__(self, cores: Callable[[], float]) -> None:
        self._cores, self._at, self._ticks = cores, time.monotonic(), 1000.0
        self._empty = tempfile.mkdtemp()

    def __truediv__(self, name: str) -> MadeUpProc | Path:
        return self if name == "stat" else Path(self._empty) / name

    def __str__(self) -> str:
        return self._empty

    def read_text(self) -> str:
        now = time.monotonic()
        self._ticks += self._cores() * (now - self._at) * os.sysconf("SC_CLK_TCK")
        self._at = now
        return f"cpu{min(usable_cores())} {round(self._ticks)} 0 0 9 0 0 0 0\n"


def others_use(cores: float | Callable[[], float], monkeypatch) -> None:
    """Let other programs use so many cores, in this process and in those that it starts with the light child."""
    of_now = cores if callable(cores) else lambda: cores
    monkeypatch.setattr(host_load, "PROC", MadeUpProc(of_now))
    monkeypatch.setenv(VARIABLE, str(of_now()))


def install() -> None:
    """Do the same in a process that was started so."""
    if cores := os.environ.get(VARIABLE):
        host_load.PROC = MadeUpProc(lambda: float(cores))  # type: ignore[assignment]  # stands in for a Path
