"""A made-up host, faked at psutil's edge: what other programs use of its cores, and how much memory it has.

None of our own processes is in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import psutil

from epochcast.machine.host.host import usable_cores

VARIABLE = "MADE_UP_HOST_CORES"  # for processes that a test starts


class MadeUpTimes:
    """`psutil.cpu_times` of a host whose other programs use `cores()` cores, read when it is asked for."""

    def __init__(self, cores: Callable[[], float]) -> None:
        self._cores, self._at, self._sec = cores, time.monotonic(), 10.0

    def __call__(self, percpu: bool = False) -> list[SimpleNamespace]:
        now = time.monotonic()
        self._sec += self._cores() * (now - self._at)
        self._at = now
        return [SimpleNamespace(user=self._sec * (place == 0), idle=0.09) for place in range(len(usable_cores()))]


class UnseenProcess(psutil.Process):
    """A process whose processor time is not the made-up host's."""

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        return []

    def cpu_times(self) -> tuple[float, ...]:
        return (0.0, 0.0, 0.0, 0.0)


def others_use(cores: float | Callable[[], float], monkeypatch) -> None:
    """Let other programs use so many cores, in this process and in those that it starts with the light child."""
    of_now = cores if callable(cores) else lambda: cores
    monkeypatch.setattr(psutil, "cpu_times", MadeUpTimes(of_now))
    monkeypatch.setattr(psutil, "Process", UnseenProcess)
    monkeypatch.setenv(VARIABLE, str(of_now()))


def install() -> None:
    """Do the same in a process that was started so."""
    if cores := os.environ.get(VARIABLE):
        psutil.cpu_times = MadeUpTimes(lambda: float(cores))
        psutil.Process = UnseenProcess


def memory_is(total: int, available: int, monkeypatch) -> None:
    """Let the host have so many bytes of memory, and so many to spare."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total, available=available))
