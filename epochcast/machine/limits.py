"""Work that others' input drives, stopped when it takes too long or too much memory."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from epochcast.machine.host.host import ask_psutil

T = TypeVar("T")

MIB = 1 << 20
LOOK_SEC = 0.02  # between two looks at what the work has taken
PATIENCE_SEC = 5.0  # for the work to stop once it is asked to; native code has to come back first


class LimitError(ValueError):
    """The work was stopped; says what it took too much of, and holds where it was."""

    def __init__(self, passed: str, lines: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__(passed)
        self.lines = lines  # files and lines of its calls, the outermost first; empty where they are not known


class EndedError(Exception):
    """The work tried to end the program, which is the caller's to do; its cause is what it raised."""


class _Stop(BaseException):
    """Raised inside the work: no `except Exception` of a library's keeps it."""


def call_within(work: Callable[[], T], sec: float, memory_bytes: int, wall_sec: float = 30.0) -> T:
    """Return what `work` returns, run in a thread of its own within limits of time and memory.

    `sec` is processor time of that thread, `wall_sec` ends one that waits; `memory_bytes` come on top of what is taken.

    Raises:
        LimitError: if it took more.
        EndedError: if it raised SystemExit, or what else is no Exception.
        Exception: what `work` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    clocks: list[int] = []

    def run() -> None:
        try:
            if hasattr(time, "pthread_getcpuclockid"):
                clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)  # does not keep a process that gave it up
    with _limited_allocations(memory_bytes):
        thread.start()
        try:
            passed = _watch(thread, clocks, sec, memory_bytes, wall_sec)
            lines = _lines(thread) if passed is not None else []
        finally:
            _stop(thread)
    if passed is not None:
        raise LimitError(passed, lines)
    if errors:
        if isinstance(errors[0], MemoryError):
            raise LimitError(_too_much(memory_bytes), lines_of(errors[0])) from None
        if not isinstance(errors[0], Exception | KeyboardInterrupt):
            raise EndedError(type(errors[0]).__name__) from errors[0]
        raise errors[0]
    return results[0]


def lines_of(error: BaseException | None) -> list[tuple[str, int]]:
    """Return the files and lines of an error's calls, the outermost first."""
    return (
        [] if error is None else [(frame.f_code.co_filename, n) for frame, n in traceback.walk_tb(error.__traceback__)]
    )


def _lines(thread: threading.Thread) -> list[tuple[str, int]]:
    """Files and lines of the calls that a thread is in, the outermost first."""
    frame = sys._current_frames().get(thread.ident or 0)
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(frame)][::-1] if frame else []


def _too_much(memory_bytes: int) -> str:
    return f"more than {memory_bytes // MIB} MiB of memory"


def _watch(thread: threading.Thread, clocks: list[int], sec: float, memory_bytes: int, wall_sec: float) -> str | None:
    """Wait for the work; which limit it has passed, None if it ended by itself."""
    start, resident = time.monotonic(), _resident_bytes()
    while True:
        thread.join(LOOK_SEC)
        if not thread.is_alive():
            return None
        taken = 0.0
        with contextlib.suppress(OSError):  # it has ended since
            taken = sum(map(time.clock_gettime, clocks))  # one at most
        if taken > sec:
            return f"more than {sec:g} s of processor time"
        if time.monotonic() - start > wall_sec:
            return f"more than {wall_sec:g} s by the wall clock"
        if _resident_bytes() - resident > memory_bytes:
            return _too_much(memory_bytes)


def _stop(thread: threading.Thread) -> None:
    """End the work at its next step in Python; again and again, as a library may catch everything."""
    give_up = time.monotonic() + PATIENCE_SEC
    with _unheard(_Stop):
        while thread.is_alive() and time.monotonic() < give_up:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
            thread.join(0.1)


@contextlib.contextmanager
def _unheard(kind: type[BaseException]) -> Iterator[None]:
    """Print nothing where such an error meets a finalizer or a callback, which Python would report and go on."""
    before = sys.unraisablehook

    def hook(unraisable: Any, /) -> None:  # Any: sys.UnraisableHookArgs, which has no name at run time
        if not (unraisable.exc_type and issubclass(unraisable.exc_type, kind)):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _sizes() -> Any:  # Any: of psutil, which has no types
    """Return the sizes of this process in bytes, by psutil's names; None where the system does not report them."""
    return ask_psutil(lambda psutil: psutil.Process().memory_info())


def _resident_bytes() -> int:
    return getattr(_sizes(), "rss", 0)


@contextlib.contextmanager
def _limited_allocations(memory_bytes: int) -> Iterator[None]:
    """Refuse single allocations beyond the limit, which no look between two steps would see in time."""
    data_bytes = getattr(_sizes(), "data", None)  # of Linux alone
    if data_bytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes + memory_bytes
    soft = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
