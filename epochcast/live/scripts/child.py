"""The process of a script, and one sentence for whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from epochcast.live.scripts.script import command
from epochcast.live.scripts.works import Request

STDERR = 2
GRACE_SEC = 5.0  # for a process to end once its fit was tried
ARGUMENTS_WRONG = 2  # the exit code of argparse
ENDS = ("unusable", "failed", "raised", "ended")  # events after which no other comes
DONE = {"estimate": "estimated", "tune": "tuned"}

Event = tuple[str, dict[str, Any]]  # its name and values


class ScriptError(ValueError):
    """A script whose fit can't be tried."""


@dataclass
class Found:
    """What a script's process reported: fit, estimate, and layers if asked for."""

    caught: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] | None = None


class ScriptProcess:
    """A process group that runs a script, and ends with all that it started."""

    def __init__(self, request: Request, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.request, self.process = request, process
        self._channel, self._events = channel, channel.makefile(encoding="utf-8")
        self._is_late = self._is_caught = False
        threading.Thread(target=self._follow, daemon=True).start()

    def end(self) -> None:
        """Kill it with all that it started."""
        self._kill()
        self.process.wait()
        self._events.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _late(self) -> None:
        self._is_late = True
        self._kill()

    def _follow(self) -> None:
        """End what the process started, which would keep its channel open."""
        if hasattr(os, "waitid"):  # not on macOS
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
                self._kill()

    def caught(self, script_sec: float, note: Callable[[str], None]) -> dict[str, Any]:
        """Wait until the fit is caught; return its description.

        Args:
            script_sec: how long the script may take until its fit.
            note: called with what happens meanwhile, in sentences.

        Raises:
            ScriptError: if the script did not come to the fit.
        """
        script = self.request.script
        too_late = threading.Timer(script_sec, self._late)
        too_late.daemon = True
        too_late.start()
        try:
            event, told = self.event()
            while event == "own_loop":
                note(f"{script} calls {told['name']}: of a training in a loop of its own no fit is caught.")
                event, told = self.event()
        except ScriptError as error:
            if not self._is_late:
                raise
            raise ScriptError(
                f"{script} had not come to {_which(self.request)} after {script_sec:g} s. --script_sec gives it longer."
            ) from error
        finally:
            too_late.cancel()
        self._is_caught = True
        return told

    def event(self) -> Event:
        """Wait for the next event.

        Raises:
            ScriptError: if the script ended or failed instead; with the reason.
        """
        line = ""
        with contextlib.suppress(ConnectionError):  # it died before it read all that it was asked for
            line = self._events.readline()
        if not line.endswith("\n"):
            self.process.wait()
            raise ScriptError(_why_it_died(self.request, self.process.returncode, self._is_caught))
        told = json.loads(line)
        event = told.pop("event")
        if event in ENDS:
            raise ScriptError(_why(self.request, event, told))
        return event, told

    def answer(self, **question: Any) -> Event:
        """Ask a process that tunes its fit; return its answer.

        Raises:
            ScriptError: as `event`.
        """
        with contextlib.suppress(ConnectionError):  # then its next event says why
            self._channel.sendall(f"{json.dumps(question)}\n".encode())
        return self.event()


@contextlib.contextmanager
def running(request: Request) -> Iterator[ScriptProcess]:
    """Run a script in a process, which is killed on the way out."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                command(request, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdout=STDERR,  # what it prints is not the answer
                start_new_session=True,
            )
        script = ScriptProcess(request, process, ours)
        try:
            yield script
        finally:
            script.end()


def estimated(request: Request, script_sec: float, note: Callable[[str], None]) -> Found:
    """Return what was caught and what came of it.

    Args:
        script_sec: how long the script may take until its fit.
        note: called with what happens meanwhile, in sentences.

    Raises:
        ScriptError: if the script did not come to the fit, or the fit can't be estimated.
    """
    with running(request) as script:
        found = Found(script.caught(script_sec, note))
        note(f"{caught_words(found.caught)}; it is tried for {request.budget_sec:g} s.")
        event, told = script.event()
        if event == "layers":
            found.layers = told
            event, told = script.event()
        found.estimate = told
        with contextlib.suppress(subprocess.TimeoutExpired):
            script.process.wait(GRACE_SEC)
        return found


def caught_words(caught: dict[str, Any]) -> str:
    """Return what was caught in a sentence."""
    params = "not yet built" if caught["params"] is None else f"{caught['params']:,} parameters"
    data = ", ".join(f"{name} {text}" for name, text in caught["data"].items())
    batch = "unknown" if caught["batch_size"] is None else caught["batch_size"]
    values = caught["option_values"]
    others = [f"{name} {values[name]}" for name in values if name not in ("batch_size", "epochs")]
    options = f"; {', '.join(others)}" if others else ""
    return (
        f"caught the fit of {caught['model']} ({params}) after {caught['script_sec']:.3g} s: {data}; "
        f"batch size {batch}, epochs {caught['epochs']}{options}"
    )


def _which(request: Request) -> str:
    if request.function is not None:
        return "the fit"
    return "its first fit" if request.number == 1 else f"fit number {request.number}"


def _why(request: Request, event: str, told: dict[str, Any]) -> str:
    """Return why there is no estimate, by the event that says so."""
    script, which = request.script, _which(request)
    if event == "unusable":
        return str(told["message"])
    if event == "failed":
        return f"{script}: {which} can't be {DONE[request.work]}: {told['message']}"
    if event == "raised":
        where = told["where"] or f"before {which} (exit code 1)"
        return f"{script} failed {where}: {told['message']}. Its traceback stands above."
    why = f"{script} ended (exit code {told['code']}) without {which}"
    if told["code"]:
        return f"{why}; what it said stands above.{_hint(request, told['code'])}"
    if told["own_loop"]:
        return f"{why}: it calls {told['own_loop']}, and a training in a loop of its own can't be caught."
    if told["fits"]:
        return f"{why}; it called fit {told['fits']} time{'s' * (told['fits'] != 1)}. --fit chooses one of them."
    return f"{why}. A training in a loop of its own, or in another process, can't be caught."


def _hint(request: Request, code: int) -> str:
    """Return what may be wrong with the arguments of a script that ended as argparse ends."""
    if code != ARGUMENTS_WRONG:
        return ""
    if not request.arguments:
        return f" Its arguments come after its name: epochcast {request.work} {request.script} ..."
    return f" What comes after {request.script} is its own; flags of {request.work} come before it."


def _why_it_died(request: Request, code: int, is_caught: bool) -> str:
    which = _which(request)
    where = f"while {which} was {DONE[request.work]}" if is_caught else f"before {which}"
    if code == 0 and not is_caught:  # os._exit
        return f"{request.script} ended (exit code 0) without {which}."
    if code >= 0:
        return f"{request.script} failed {where} (exit code {code}); what it said stands above."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    if -code == signal.SIGKILL:
        return f"{request.script} was killed {where} (signal 9, {name}): the system may have run out of memory."
    return f"{request.script} failed {where} (signal {-code}, {name}); what it said stands above."
