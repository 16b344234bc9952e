"""When a fit has to stop, so that it ends before a time.

The steps of a device may be far behind those that were given to it, so that the clock alone does not say how much is
still to come. The device is waited for whenever the steps given since would take a tenth of what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_AHEAD = 0.1  # of the time left, that steps which were not waited for may take
RESERVE = 0.02  # of the budget: kept free for the end of a fit until that was timed
MARGIN = 1.2  # more than expected, that an epoch or the end of one may take


class Pace:
    """How fast a device does its steps, known from where it was waited for.

    Args:
        wait: waits until the device has done all steps that were given to it.
    """

    def __init__(self, wait: Callable[[], None], clock: Callable[[], float]) -> None:
        self._wait, self._clock = wait, clock
        self._is_compiled = False
        self.step_sec = 0.0  # 0 until a step after the first was waited for
        self.begin()

    def begin(self) -> None:
        """Count steps from 0 again; the device has done the former ones."""
        self._done, self._done_at = 0, self._clock()

    def behind_sec(self, step: int, most_sec: float) -> float:
        """Return how far the device is behind, waiting for it if that may exceed `most_sec`."""
        n = step - self._done
        if n and (not self.step_sec or n * self.step_sec >= most_sec):
            self._wait()
            now = self._clock()
            if self._is_compiled:
                self.step_sec = (now - self._done_at) / n
            self._is_compiled, self._done, self._done_at, n = True, step, now, 0
        return n * self.step_sec


class Deadline:
    """A time by which a fit ends.

    Args:
        sec: from now.
        wait: waits until the device has done all training steps that were given to it.
        wait_for_test: the same of the steps of a validation.
    """

    def __init__(
        self,
        sec: float,
        wait: Callable[[], None],
        wait_for_test: Callable[[], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._end = clock() + sec
        self._tail_sec = RESERVE * sec
        self.training, self.validation = Pace(wait, clock), Pace(wait_for_test, clock)
        self.is_over = False  # the fit is being stopped

    @property
    def left_sec(self) -> float:
        """Seconds until the last step has to be done."""
        return self._end - self._tail_sec - self._clock()

    def ends_epoch_in(self, sec: float) -> None:
        """Learn how long the end of an epoch takes, validation apart."""
        self._tail_sec = max(self._tail_sec, MARGIN * sec)

    def is_last(self, step: int, pace: Pace) -> bool:
        """Whether this step, which is about to begin, has to be the last one."""
        behind_sec = pace.behind_sec(step, MOST_AHEAD * self.left_sec)
        if self.left_sec - behind_sec < 2 * pace.step_sec:
            self.is_over = True
        return self.is_over

    def is_too_late_for(self, sec: float) -> bool:
        """Whether what takes so long would not end in time."""
        if MARGIN * sec > self.left_sec:
            self.is_over = True
        return self.is_over
