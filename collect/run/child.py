"""The measuring process, watched from outside: its events, its output, its end, and what asks it to stop."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from epochcast.collect.run.events import LONGEST_EVENT, Heard
from epochcast.guard import keep_descriptors_open
from epochcast.paths import PACKAGE
from epochcast.schema import RunSpec

CHILD = (sys.executable, str(PACKAGE / "collect" / "run" / "measure.py"))  # the measuring process of this installation
GRACE_SEC = 10.0  # between asking a child to stop and killing it
LAST_WORDS_SEC = 5.0  # for what a child that has ended left in its pipes
TAIL_BYTES = 8192  # of a child's output, kept to tell an out-of-memory abort from another crash


@dataclass(slots=True)
class ChildReport(Heard):
    """What is known of a child process: what it has said, and how it ended."""

    exit_code: int | None = None  # negative: ended by that signal
    wall_sec: float = 0.0
    cpu_time_sec: float = 0.0
    was_timeout: bool = False
    was_interrupted: bool = False
    output_tail: bytes = b""


@dataclass(frozen=True, slots=True)
class ChildListener:
    """What to call with a child's events, with what it prints, and with its process id when it has been started."""

    on_event: Callable[[dict[str, Any]], None]
    on_output: Callable[[bytes], None]
    on_start: Callable[[int], None] = lambda pid: None


class _Streams:
    """A child's two pipes: events, noted in the report, and everything it prints."""

    def __init__(self, events: IO[bytes], output: IO[bytes], report: ChildReport, listener: ChildListener) -> None:
        self._report, self._listener = report, listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(events, selectors.EVENT_READ, self._handle_events)
        self._selector.register(output, selectors.EVENT_READ, self._handle_output)
        self._unended = b""

    def read(self, timeout_sec: float) -> bool:
        """Handle what can be read within `timeout_sec`; False if there was nothing."""
        if not self._selector.get_map():
            time.sleep(min(timeout_sec, 0.01))  # both ends are closed: only the exit is waited for
            return False
        ready = self._selector.select(timeout_sec)
        for key, _ in ready:
            if data := os.read(key.fd, 65536):
                key.data(data)
            else:
                self._selector.unregister(key.fileobj)
        return bool(ready)

    def _handle_output(self, data: bytes) -> None:
        self._report.output_tail = (self._report.output_tail + data)[-TAIL_BYTES:]
        self._listener.on_output(data)

    def _handle_events(self, data: bytes) -> None:
        *lines, self._unended = (self._unended + data).split(b"\n")
        if len(self._unended) > LONGEST_EVENT:
            lines, self._unended = [*lines, self._unended], b""
        for line in lines:
            if (event := self._report.take(line)) is not None:
                self._listener.on_event(event)

    def end(self) -> None:
        """No more will come: a line without its end was cut off."""
        if self._unended:
            self._report.take(self._unended[:LONGEST_EVENT])


@contextlib.contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Signals that ask this process to stop, noted instead of raised: a row half way to its table is not lost.

    A signal that this process was started to ignore (`nohup`, `&` in a script) stays ignored.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    wanted = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = [signal.signal(number, lambda received, _: noted.append(received)) for number in wanted]
    try:
        yield noted
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


def run_child(
    spec: RunSpec,
    listener: ChildListener,
    *,
    idle_sec: float = 0.0,
    timeout_sec: float | None = None,
    interrupts: Sequence[int] = (),
    child: Sequence[str] | None = None,
) -> ChildReport:
    """Run one spec in a child process and watch it to its end; a signal in `interrupts` is passed on and reported.

    Args:
        idle_sec: how long a child on a GPU waits before its first epoch.
        child: the command of the process; None for `CHILD`.
    """
    report = ChildReport()
    keep_descriptors_open()  # a pipe at 0, 1 or 2 would be lost under the child's own streams
    read_end, write_end = os.pipe()
    start = time.perf_counter()
    process = subprocess.Popen(
        [*(CHILD if child is None else child), str(write_end), str(os.getpid()), str(idle_sec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(write_end,),
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
    )
    os.close(write_end)
    listener.on_start(process.pid)
    assert process.stdin is not None and process.stdout is not None
    stop_at = math.inf if timeout_sec is None else start + timeout_sec
    kill_at = math.inf
    with process.stdout, os.fdopen(read_end, "rb", 0) as events:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(asdict(spec)).encode())
        streams = _Streams(events, process.stdout, report, listener)
        try:
            while True:
                streams.read(0.2)
                now = time.perf_counter()
                if interrupts and not report.was_interrupted:
                    report.was_interrupted, kill_at = True, now + GRACE_SEC
                    _signal_session(process, signal.SIGINT)
                if now > stop_at:
                    report.was_timeout, stop_at, kill_at = True, math.inf, now + GRACE_SEC
                    _signal_session(process, signal.SIGTERM)
                if now > kill_at or len(interrupts) > 1 or report.fault is not None:
                    _signal_session(process, signal.SIGKILL)
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
        except BaseException:
            _signal_session(process, signal.SIGKILL)
            process.wait()
            raise
        report.wall_sec = time.perf_counter() - start
        process.returncode = report.exit_code = os.waitstatus_to_exitcode(status)
        report.cpu_time_sec = usage.ru_utime + usage.ru_stime
        _signal_session(process, signal.SIGKILL)  # whatever the child may have left running
        end_at = time.monotonic() + LAST_WORDS_SEC  # a grandchild may hold the pipes open, and go on talking
        while streams.read(0) and time.monotonic() < end_at:
            pass
        streams.end()
    return report


def _signal_session(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # the child leads a session of its own
