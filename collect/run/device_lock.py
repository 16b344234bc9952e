"""Measure on a device in one process at a time: a lock per device that all homes of this user on this box share.

Two runs that measure at once disturb each other, and neither row would show it on a processor of many cores. Whoever
comes second waits its turn. A turnstile keeps the order: who measures one run after the other can't overtake who waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epochcast.machine.gpu_driver import device_of
from epochcast.output.text import clock
from epochcast.paths import locks_dir
from epochcast.storage.locks import try_lock
from epochcast.storage.private_folder import make_private_folder, private_lock_file
from epochcast.storage.temporary_files import host_and_boot
from epochcast.text_sinks import one_line
from epochcast.validation import is_finite, require

logger = logging.getLogger(__name__)

WAIT_SEC = 3600.0  # of runs that take minutes each, one waits for one of them, or for a few
POLL_SEC = 0.05
NOTICE_SEC = 0.5  # between two runs of one grid the device is free for less
CPU = "cpu"
MOST_BYTES = 1000  # of what the holder of a device says of itself


class DeviceBusyError(ValueError):
    """Another run was still on the device when the wait was over."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What to do when another run is on the device: wait at most `wait_sec`, or, if `shares`, measure all the same."""

    wait_sec: float = WAIT_SEC
    shares: bool = False

    def __post_init__(self) -> None:
        require(is_finite(self.wait_sec), self, "wait_sec", "a number of seconds")
        require(isinstance(self.shares, bool), self, "shares", "true or false")


WAITING = Sharing()


@dataclass(slots=True)
class DeviceAccess:
    """How a run got its device: shared with another run, or not at all because the wait was interrupted."""

    is_shared: bool = False
    was_interrupted: bool = False


def device_key(device: str) -> str:
    """Return a name for the device that a run with `--device device` uses on this box, the same for every home."""
    found = device_of(device)
    if found.kind == CPU:
        return CPU
    # without a UUID those asked for alike are taken as one
    return found.uuid or f"{found.name} {'0' if device in ('auto', 'gpu') else device.removeprefix('gpu:')}"


@contextlib.contextmanager
def device_access(
    device: str, run_id: str, sharing: Sharing, report: Callable[[str], None], interrupts: Sequence[int]
) -> Iterator[DeviceAccess]:
    """Lock the device for one run; `report` gets a line where another run is on it.

    Where no lock can be had (a file system without locks, a folder that others may write) a warning says so, once per
    run, and the run goes on.

    Raises:
        DeviceBusyError: if another run is on the device for all of the wait.
    """
    access = DeviceAccess()
    with contextlib.ExitStack() as stack:
        try:
            folder = locks_dir()
            make_private_folder(folder)
            name = _file_name(device_key(device))
            turnstile, path = folder / f"{name}.next", folder / f"{name}.lock"
            waiting = stack.enter_context(contextlib.ExitStack())
            first = waiting.enter_context(private_lock_file(turnstile))
            descriptor = stack.enter_context(private_lock_file(path))
            wait = _Wait(descriptor, sharing, report, interrupts)
            # in this order, by everyone: the turnstile, then the device; nothing else is waited for behind them
            if wait.for_lock(first, turnstile) and wait.for_lock(descriptor, path):
                _note_holder(descriptor, run_id)
            waiting.close()
            access.is_shared, access.was_interrupted = wait.gave_up, bool(interrupts)
        except DeviceBusyError:
            raise
        except (OSError, ValueError) as error:
            logger.warning("no lock on the device, another run on it would not be noticed: %s", error)
        yield access


class _Wait:
    """The wait for a device, with one end for both locks."""

    def __init__(
        self,
        descriptor: int,
        sharing: Sharing,
        report: Callable[[str], None],
        interrupts: Sequence[int],
    ) -> None:
        self._descriptor, self._sharing = descriptor, sharing
        self._report, self._interrupts = report, interrupts
        self._start = time.monotonic()
        self._has_reported = self.gave_up = False

    def for_lock(self, descriptor: int, path: Path) -> bool:
        """Whether the lock was got; not if the device is shared, or somebody interrupts."""
        while not try_lock(descriptor, path):
            waited_sec = time.monotonic() - self._start
            if self._interrupts:
                return False
            if waited_sec >= NOTICE_SEC:
                other = f"another run is on this device ({self._holder()})"
                if self._sharing.shares:
                    self._report(f"{other}: measured all the same, as --share_device asks for, and flagged")
                    self.gave_up = True
                    return False
                if waited_sec >= self._sharing.wait_sec:
                    raise DeviceBusyError(
                        f"{other} still after {clock(self._sharing.wait_sec)}. Wait longer (--wait TIME), or measure "
                        "all the same, flagged (--share_device)."
                    )
                if not self._has_reported:
                    self._report(f"{other}: waiting for it, at most {clock(self._sharing.wait_sec)}")
                    self._has_reported = True
            time.sleep(POLL_SEC)
        return True

    def _holder(self) -> str:
        """Who is on the device, in words."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(os.pread(self._descriptor, MOST_BYTES, 0))
            return one_line(f"pid {int(said['pid'])}, run_id {said['run_id']!s}")
        return "who it is is not known yet"


def _note_holder(descriptor: int, run_id: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: others then don't learn who it is
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "run_id": run_id}).encode()[:MOST_BYTES], 0)


def _file_name(key: str) -> str:
    """A file name for a device of this box; homes on a network's file system hold those of several boxes."""
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:60]
    return f"{host_and_boot() or 'unknown'}-{words}-{digest}"
