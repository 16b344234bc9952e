"""The process of a script, and one sentence for whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from epochcast.live.scripts.script import Request, command

STDERR = 2
GRACE_SEC = 5.0  # for a process to end once its fit was estimated
ARGUMENTS_WRONG = 2  # the exit code of argparse


class ScriptError(ValueError):
    """A script whose fit can't be estimated."""


@dataclass
class Found:
    """What a script's process reported: fit, estimate, and layers if asked for."""

    caught: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] | None = None


class _Process:
    """A process in a group of its own, which ends with all that it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.is_late = False
        threading.Thread(target=self._follow, daemon=True).start()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def late(self) -> None:
        self.is_late = True
        self.kill()

    def _follow(self) -> None:
        """End what the process started, which would keep its pipe open."""
        if hasattr(os, "waitid"):  # not on macOS
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
                self.kill()


@contextlib.contextmanager
def _running(request: Request) -> Iterator[tuple[_Process, Any]]:
    """A process that runs the script, and its events; killed on the way out."""
    receive, send = os.pipe()
    with os.fdopen(receive, encoding="utf-8") as events:
        try:
            process = subprocess.Popen(
                command(request, send),
                pass_fds=(send,),
                stdout=STDERR,  # what it prints is not the estimate
                start_new_session=True,
            )
        finally:
            os.close(send)
        running = _Process(process)
        try:
            yield running, events
        finally:
            running.kill()
            process.wait()


def estimated(request: Request, script_sec: float, note: Callable[[str], None]) -> Found:
    """Return what was caught and what came of it.

    Args:
        script_sec: how long the script may take until its fit.
        note: called with what happens meanwhile, in sentences.

    Raises:
        ScriptError: if the script did not come to the fit, or the fit can't be estimated.
    """
    found = Found()
    with _running(request) as (running, events):
        too_late = threading.Timer(script_sec, running.late)
        too_late.daemon = True
        too_late.start()
        try:
            for line in events:
                told = json.loads(line)
                event = told.pop("event")
                if event == "own_loop":
                    note(f"{request.script} calls {told['name']}: of a training in a loop of its own no fit is caught.")
                elif event == "caught":
                    too_late.cancel()
                    found.caught = told
                    note(f"{caught_words(told)}; it is tried for {request.budget_sec:g} s.")
                elif event == "layers":
                    found.layers = told
                elif event == "estimate":
                    found.estimate = told
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.process.wait(GRACE_SEC)
                    return found
                else:
                    raise ScriptError(_why(request, event, told))
        finally:
            too_late.cancel()
        running.process.wait()
        if running.is_late:
            raise ScriptError(
                f"{request.script} had not come to {_which(request)} after {script_sec:g} s. --script_sec gives it "
                "longer."
            )
        raise ScriptError(_why_it_died(request, running.process.returncode, bool(found.caught)))


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
        return f"{script}: {which} can't be estimated: {told['message']}"
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
        return f" Its arguments come after its name: epochcast estimate {request.script} ..."
    return f" What comes after {request.script} is its own; flags of estimate come before it."


def _why_it_died(request: Request, code: int, is_caught: bool) -> str:
    which = _which(request)
    where = f"while {which} was estimated" if is_caught else f"before {which}"
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
