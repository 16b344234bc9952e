"""The account of a plan's runs, beside the plan: one line of JSON for every change, pushed to the disk at once.

`used_sec` counts the seconds in which the plan was being carried out, by a monotonic clock: time between two sessions
is no part of it. A line `alive` every few seconds tells, after a kill, how far the run that was cut off had come.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from epochcast.collect.records.kept import RUN_ID
from epochcast.machine.environment import utc_now
from epochcast.schema import FAILURE_STATUSES
from epochcast.storage.cells import shown
from epochcast.storage.files import make_folder, read_bytes, sync_folder
from epochcast.storage.json_files import parse_json
from epochcast.storage.locks import NoLocksError, try_lock
from epochcast.validation import is_finite

DONE, OTHER, ELSEWHERE = "done", "other conditions", "elsewhere"
STATUSES = (*FAILURE_STATUSES, DONE, OTHER, ELSEWHERE)
MOST = 1e9  # seconds, kWh, ...: no plan takes that much
FIRST_BYTES = 400  # of a first line at most
ALIVE_SEC = 5.0
OWN_SEC = 1.0  # of a plan's own work beside each run that refuses no run: reading tables, writing rows
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

    @property
    def own_sec(self) -> float:
        """Seconds of that in which no run was going on, which are in the cost of none; at most OWN_SEC for each."""
        own, since, n_runs = 0.0, None, 1
        for line in self.lines:
            if line["event"] in ("begun", "resumed", "run_ended"):
                since = line["used_sec"]
            elif line["event"] in ("run_started", "ended") and since is not None:
                own, since = own + max(0.0, line["used_sec"] - since), None
            n_runs += line["event"] == "run_started"
        last = 0.0 if since is None and self.lines else self.used_sec - (since or 0.0)
        return min(own + max(0.0, last), n_runs * OWN_SEC)

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
        with self._lock:
            # read under the lock: a line that is written later tells no less time
            line = {"event": event, "utc": utc_now(), "used_sec": round(self.used_sec, 3), **values}
            if self._descriptor is not None:
                _append(
                    self._descriptor, json.dumps(line, allow_nan=False).encode() + b"\n", event != "alive", self.path
                )
            if event != "alive":
                self.lines.append(line)

    def of(self, event: str) -> list[dict[str, Any]]:
        """All lines of an event, in order."""
        return [line for line in self.lines if line["event"] == event]

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Report every few seconds how much time is used, so that a kill loses no more than that."""
        stop = threading.Event()

        def report() -> None:
            while not stop.wait(ALIVE_SEC):
                with contextlib.suppress(OSError):  # a full disk does not end a measurement
                    self.write("alive")

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            yield
        finally:
            stop.set()
            reporter.join()


@contextlib.contextmanager
def opened(path: Path, plan_id: str) -> Iterator[Ledger]:
    """The ledger of a plan, for this process alone; begun if there is none yet.

    Raises:
        ValueError: if another process carries the plan out, the file is no ledger, or that of another plan.
        OSError: if it can't be written or locked.
    """
    make_folder(path.parent)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file: a ledger can't be kept in it", str(path))
        if not _is_locked_by_us(descriptor, path):
            raise ValueError(f"{path}: another process carries this plan out at the moment.")
        if is_new:
            sync_folder(path.parent)  # else a power cut could take the whole account
        lines, whole = _read(path, plan_id)
        if whole < os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, whole)  # a kill cut the last line
        ledger = Ledger(path, lines, descriptor)
        ledger.write("resumed" if lines else "begun", plan_id=plan_id)
        yield ledger
    finally:
        with contextlib.suppress(OSError):  # every line has been pushed to the disk before
            os.close(descriptor)


def _is_locked_by_us(descriptor: int, path: Path) -> bool:
    try:
        return try_lock(descriptor, path)
    except NoLocksError as error:
        raise NoLocksError(
            error.errno,
            "this file system has no locks, so two processes could carry one plan out. Copy the plan, with its ledger "
            "if there is one, to a local disk",
            str(path),
        ) from None


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
    *raw_lines, tail = read_bytes(path).split(b"\n")
    lines: list[dict[str, Any]] = []
    last_raw = b""
    for number, raw in enumerate(raw_lines, start=1):
        try:
            line = _line_of(raw, is_first=number == 1)
            if raw == last_raw and line["event"] in ("run_started", "run_ended"):  # two sessions resume in one moment
                raise ValueError("it repeats the line before")
        except ValueError as error:
            raise _no_ledger(path, number, str(error)) from None
        if line.get("plan_id", plan_id) != plan_id:
            raise ValueError(
                f"{path} is the ledger of {line['plan_id'][:60]}, not of {plan_id}. Move it aside, or write the new "
                "plan to another --out."
            )
        last_raw = last_raw if line["event"] == "alive" else raw
        lines.append(line)
    is_torn = b"\r" not in tail.rstrip(b"\r") if lines else _may_be_first(tail)
    if tail and not is_torn:
        raise _no_ledger(path, len(lines) + 1, "it has no end")
    return lines, sum(len(raw) + 1 for raw in raw_lines)


def _no_ledger(path: Path, number: int, why: str) -> ValueError:
    why = why.partition(" in line ")[0].rstrip(".")  # JSON's own line is always the first
    return ValueError(f"{path}:{number}: not a line of a plan's ledger: {why}. Move the file aside.")


def _may_be_first(tail: bytes) -> bool:
    """Whether a kill may have left this of a ledger's first line: nothing is lost with it."""
    is_start = _FIRST.startswith(tail[: len(_FIRST)])
    return is_start and len(tail) <= FIRST_BYTES and b"}" not in tail[:-1] and b"\r" not in tail


def _line_of(raw: bytes, is_first: bool) -> dict[str, Any]:
    """A line as it was written; ValueError says what is wrong with it."""
    line = parse_json(raw)
    if not isinstance(line, dict) or not isinstance(event := line.get("event"), str) or event not in NEEDED:
        raise ValueError("no event that is known")
    if (event == "begun") != is_first:
        raise ValueError("the account does not begin with it" if is_first else "the account begins anew")
    if missing := sorted({"used_sec", *NEEDED[event]} - line.keys()):
        raise ValueError(f"{missing[0]} is missing")
    for name, value in line.items():
        if not (_is_amount if name.startswith("expected_") else _RIGHT.get(name, _is_anything))(value):
            raise ValueError(f"{shown(name)[1:-1]} is {shown(str(value))}")
    return line


def _is_amount(value: object) -> bool:
    return is_finite(value) and not isinstance(value, bool) and 0 <= value <= MOST  # type: ignore[operator]  # a number


def _is_anything(value: object) -> bool:
    return True


_RIGHT: dict[str, Callable[[Any], bool]] = {  # of what is read again
    "used_sec": _is_amount,
    "plan_id": lambda value: isinstance(value, str),
    "run_id": lambda value: isinstance(value, str) and RUN_ID.fullmatch(value) is not None,
    "status": lambda value: value in STATUSES,
    "wall_sec": lambda value: value is None or _is_amount(value),
    "cost": lambda value: value is None or _is_amount(value),
    "is_outside": lambda value: isinstance(value, bool),
}
