"""The account of a plan's runs, beside the plan: one line of JSON for every change, pushed to the disk at once.

`used_sec` counts the seconds in which the plan was being carried out, by a monotonic clock: time between two sessions
is no part of it. A line `alive` every few seconds tells, after a kill, how far the run that was cut off had come.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epochcast.environment import utc_now
from epochcast.files import make_folder

ALIVE_SEC = 5.0
NEEDED: dict[str, set[str]] = {  # what a line of each event must hold beside its `used_sec`
    "begun": {"plan_id"},
    "resumed": {"plan_id"},
    "run_started": {"run_id"},
    "run_ended": {"run_id", "status"},
    "replanned": set(),
    "refused": set(),
    "ended": set(),
    "alive": set(),
}
_FIRST = b'{"event": "begun"'


class Ledger:
    """An account of a plan. Not to be made by hand: see `opened` and `looked_at`."""

    def __init__(self, path: Path, lines: list[dict[str, Any]], descriptor: int | None) -> None:
        self.path, self.lines = path, lines
        self._descriptor, self._lock = descriptor, threading.Lock()
        self._used_before = max((float(line["used_sec"]) for line in lines), default=0.0)
        self._start = time.monotonic()

    @property
    def used_sec(self) -> float:
        """Seconds that the plan has taken so far, in all sessions."""
        return self._used_before + time.monotonic() - self._start

    def charge(self, sec: float) -> None:
        """Count seconds that a run of the plan took outside of all sessions."""
        self._used_before += sec

    def reach(self, used_sec: float) -> None:
        """Count an earlier session up to there: it was cut off, but what it left behind tells that it came so far."""
        self._used_before = max(self._used_before, used_sec)

    def write(self, event: str, **values: Any) -> None:
        """Append one line; it is on the disk when this returns, but for `alive`, which may wait.

        Raises:
            OSError: if it can't be written; the ledger is then as it was.
        """
        assert NEEDED[event] <= values.keys()
        line = {"event": event, "utc": utc_now(), "used_sec": round(self.used_sec, 3), **values}
        with self._lock:
            if self._descriptor is not None:
                _append(self._descriptor, json.dumps(line).encode() + b"\n", event != "alive", self.path)
            if event != "alive":
                self.lines.append(line)

    def of(self, event: str) -> list[dict[str, Any]]:
        """All lines of an event, in order."""
        return [line for line in self.lines if line["event"] == event]

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Tell every few seconds how much time is used, so that a kill loses no more than that."""
        stop = threading.Event()

        def tell() -> None:
            while not stop.wait(ALIVE_SEC):
                with contextlib.suppress(OSError):  # a full disk does not end a measurement
                    self.write("alive")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            stop.set()
            teller.join()


@contextlib.contextmanager
def opened(path: Path, plan_id: str) -> Iterator[Ledger]:
    """The ledger of a plan, for this process alone; begun if there is none yet.

    Raises:
        ValueError: if another process carries the plan out, the file is no ledger, or that of another plan.
        OSError: if it can't be written.
    """
    make_folder(path.parent)
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another process carries this plan out at the moment.") from None
        lines, whole = _read(path, plan_id)
        if whole < path.stat().st_size:
            file.truncate(whole)  # a kill cut the last line
        ledger = Ledger(path, lines, file.fileno())
        ledger.write("resumed" if lines else "begun", plan_id=plan_id)
        yield ledger


def looked_at(path: Path, plan_id: str) -> Ledger:
    """The ledger of a plan as it is, or would be; what is written to it goes nowhere.

    Raises:
        ValueError: if the file is no ledger, or that of another plan.
    """
    return Ledger(path, _read(path, plan_id)[0] if path.exists() else [], None)


def _append(descriptor: int, data: bytes, is_pushed: bool, path: Path) -> None:
    """Append by one write; what could only be written in part is taken back."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if is_pushed:
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise OSError(error.errno, f"could not append ({error.strerror})", str(path)) from None


def _read(path: Path, plan_id: str) -> tuple[list[dict[str, Any]], int]:
    """The whole lines, and how many bytes they take; a last line without its end is left out."""
    lines: list[dict[str, Any]] = []
    whole = 0
    for number, raw in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not raw.endswith(b"\n") and (lines or _FIRST.startswith(raw[: len(_FIRST)])):
            break
        try:
            line = json.loads(raw)
            is_known = NEEDED[line["event"]] <= line.keys()
            if not is_known or not 0 <= float(line["used_sec"]) < math.inf:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}:{number}: not a line of a plan's ledger. Move the file aside.") from None
        lines.append(line)
        whole += len(raw)
    if lines and lines[0].get("plan_id") != plan_id:
        raise ValueError(
            f"{path} is the ledger of {lines[0].get('plan_id')}, not of {plan_id}. Move it aside, or write the new "
            "plan to another --out."
        )
    return lines, whole
