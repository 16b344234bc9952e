"""Ctrl-C at a time when it does no harm."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Remembers a Ctrl-C while it is on hold, and passes on any other.

    It is on hold at first. A Ctrl-C that a library swallowed or turned into an error of its own is raised at the end.
    Only the main thread is ever interrupted: in another one nothing is changed.
    """

    def __init__(self) -> None:
        self._is_on_hold = True
        self._is_due = False  # came while on hold, or has not reached the end as a KeyboardInterrupt
        self._previous: Any = None  # Any: a function, a number or None, as `signal` has it

    def __enter__(self) -> Interrupts:
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_on_hold:
            self._is_due = True
            return
        try:
            self._previous(number, frame)
        except KeyboardInterrupt:
            self._is_due = True
            raise

    def hold(self) -> None:
        """Remember from now on."""
        self._is_on_hold = True

    def release(self) -> None:
        """Pass on from now on; raise what was remembered.

        Raises:
            KeyboardInterrupt: if Ctrl-C was pressed meanwhile.
        """
        self._is_on_hold = False
        self._raise_due()

    def _raise_due(self) -> None:
        if self._is_due:
            self._is_due = False
            self._previous(signal.SIGINT, None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._previous is None:
            return
        signal.signal(signal.SIGINT, self._previous)
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self._raise_due()
