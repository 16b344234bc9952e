"""Faults planted into system calls: a process that dies at the n-th of them, or a call that fails."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import traceback
from collections.abc import Callable, Iterator

import pytest

CALLS = ("open", "write", "fsync", "link", "replace", "rename", "unlink")
KILLED, FAILED = 99, 98


@contextlib.contextmanager
def at_call(n: int, act: Callable[[], None]) -> Iterator[None]:
    """Do something just before the n-th of the system calls that change files, counted from 1."""
    left = itertools.count(1)

    def watched(call):
        def wrapped(*args, **kwargs):
            if next(left) == n:
                act()
            return call(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watched(getattr(os, name)))
        yield


def in_child(work: Callable[[], object]) -> int:
    """Start a copy of this process for some work, without waiting; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)
        os._exit(0)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_killed_at(n: int, work: Callable[[], object]) -> bool:
    """Do some work in a copy of this process that dies at its n-th call; False where it ends before."""

    def until_killed() -> None:
        with at_call(n, lambda: os._exit(KILLED)):
            work()

    code = exit_code(in_child(until_killed))
    assert code in (0, KILLED)
    return code == KILLED


def is_failed_at(n: int, work: Callable[[], object]) -> bool:
    """Do some work whose n-th call fails as of a broken disk; False where it makes fewer calls."""
    failed = []

    def fail() -> None:
        failed.append(n)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with at_call(n, fail), contextlib.suppress(OSError):
        work()
    return bool(failed)
