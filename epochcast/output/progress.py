"""What a long fit tells of how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from epochcast.cli import clock
from epochcast.text_sinks import rewrite_line

Say = Callable[[float], None]  # told the share of the work that is done
FIRST_SEC = 2.0  # a shorter wait needs no words


class Progress:
    """Lines on stderr, `what`: done and time left, at most one a second; over one line on a terminal."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._start = self._told = time.monotonic()
        self._first: tuple[float, float] | None = None  # when the first share was told, and which: start-up is over

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        is_done = share >= 1
        if self._first is None or share <= self._first[1]:
            self._first = (now, share)
            return
        if now - self._start < FIRST_SEC or (now - self._told < 1 and not is_done):
            return
        self._told = now
        since, at = self._first
        left = "done" if is_done else f"{clock((now - since) * (1 - share) / (share - at))} left"
        line = f"{self.what}: {100 * share:.0f} %, {left}"
        if sys.stderr.isatty():
            rewrite_line(sys.stderr, line, is_done)
        else:
            print(line, file=sys.stderr, flush=True)


class Quiet:
    """Says nothing of `what`."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, share: float) -> None:
        pass
