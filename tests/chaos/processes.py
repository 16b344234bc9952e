"""Forked processes: what they returned, raised and printed, and how they were killed.

A fork of one warm process costs milliseconds where a new interpreter costs a quarter of a second. The warm process
itself writes nothing with the code under trial: what that code remembers for the length of a process, every fork has.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from epochcast.guard import die_with_parent
from tests.chaos.injection import Call, Injection

DEADLINE_SEC = 90.0  # above the 60 s that a lock is waited for


class HungError(Exception):
    """A process that did not end within DEADLINE_SEC."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a forked process ended: by its function's value, by an exception, or killed."""

    value: Any = None
    error: BaseException | None = None
    trace: str = ""  # of the exception
    output: str = ""  # both standard streams
    calls: tuple[Call, ...] = ()  # file calls that were counted
    was_killed: bool = False

    def returned(self) -> Any:
        """The value; raises the exception, or an AssertionError if the process was killed."""
        assert not self.was_killed, f"killed; it printed {self.output[-500:]!r}"
        if self.error is not None:
            raise self.error
        return self.value


class Process:
    """A forked process that carries out `function`, with `injection` armed meanwhile."""

    def __init__(self, function: Callable[[], Any], injection: Injection | None = None) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by wait()
        self._answer, answer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        self._ended: int | None = None
        if self.pid == 0:
            self._be_child(function, injection, answer, parent)
        os.close(answer)

    def _be_child(self, function: Callable[[], Any], injection: Injection | None, answer: int, parent: int) -> None:
        die_with_parent(parent)  # an interrupted harness leaves nothing running
        os.setsid()
        os.dup2(self._output.fileno(), 1)
        os.dup2(self._output.fileno(), 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        faulthandler.register(signal.SIGUSR1, file=self._output, all_threads=True)
        value, error, trace, calls = None, None, "", []
        try:
            if injection is not None:
                injection.arm()
            value = function()
        except BaseException as raised:  # whatever it is, it is what the parent wants to know
            error, trace = raised, traceback.format_exc()
        if injection is not None:
            calls = injection.disarm()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            with os.fdopen(answer, "wb") as file:
                file.write(_pickled(value, error, trace, calls))
        finally:
            os._exit(0)

    def kill(self) -> bool:
        """Kill -9 at this moment; whether it was still running."""
        if self.has_ended():
            return False
        os.kill(self.pid, signal.SIGKILL)
        self._ended = os.waitpid(self.pid, 0)[1]
        return True

    def _place(self) -> str:
        """Where a process hangs, by the stacks of its threads; it is killed then."""
        if self.has_ended():
            return "it has ended, and something else holds its pipe"
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.5)
        self.kill()
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]

    def has_ended(self) -> bool:
        if self._ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._ended = status if pid else None
        return self._ended is not None

    def wait(self, deadline_sec: float = DEADLINE_SEC) -> Ending:
        """How it ended; raises HungError if it does not within `deadline_sec`, and kills it then."""
        deadline = time.monotonic() + deadline_sec
        data = bytearray()
        while True:  # until its end of the pipe is closed, which its death does
            if not select.select([self._answer], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise HungError(f"no end within {deadline_sec:.0f} s | {self._place()}")
            if not (part := os.read(self._answer, 1 << 20)):
                break
            data += part
        if self._ended is None:
            self._ended = os.waitpid(self.pid, 0)[1]
        os.close(self._answer)
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        self._output.close()
        if not data:
            return Ending(output=output, was_killed=True)
        value, error, trace, calls = pickle.loads(data)
        return Ending(value, error, trace, output, tuple(calls))


def _pickled(value: Any, error: BaseException | None, trace: str, calls: list[Call]) -> bytes:
    try:
        return pickle.dumps((value, error, trace, calls))
    except Exception:  # an exception that can't travel
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), trace, calls))


def call(function: Callable[[], Any], injection: Injection | None = None) -> Ending:
    """Carry a function out in a forked process."""
    return Process(function, injection).wait()
