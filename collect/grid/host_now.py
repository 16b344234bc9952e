"""What other programs take of the processor at this moment, in which nothing of ours is measured."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

from epochcast.machine.environment import load_average
from epochcast.machine.host.host import cpu_count, cpu_quota_cores
from epochcast.machine.host.load import BUSY_SHARE, host_cpu_times, is_busy_host, other_cores

LOOK_SEC = 1.0
FREE_SHARE = BUSY_SHARE["cpu"]  # of the cores: less slows nothing down that is worth an estimate
FULL_SHARE = 0.8
MOST_SLOWDOWN = 8.0


@dataclass(frozen=True, slots=True)
class HostNow:
    """The cores that other programs keep busy at this moment, of those that a run may use; None: unknown."""

    others: float | None
    cores: float
    load_avg: float | None = None  # of the whole machine, over the last minute

    @classmethod
    def look(cls) -> HostNow:
        """Look on for a second, in which nothing of ours is measured."""
        before = host_cpu_times()
        time.sleep(LOOK_SEC)
        others = other_cores(before, host_cpu_times())
        return cls(others, min(cpu_count(), cpu_quota_cores() or math.inf), load_average())

    @property
    def slowdown(self) -> float:
        """How many times as long a program takes that asks for every core, if all that ask get equal shares."""
        if self.others is None or self.others < FREE_SHARE * self.cores:
            return 1.0
        # where all cores are taken, more may be asked for than there is
        waiting = (self.load_avg or 0.0) / (os.cpu_count() or 1) if self.others >= FULL_SHARE * self.cores else 0.0
        return min(MOST_SLOWDOWN, 1.0 + max(self.others / self.cores, waiting))

    def is_busy(self, device_kind: str) -> bool:
        return is_busy_host(self.others, self.cores, device_kind)

    def __str__(self) -> str:
        if self.others is None:
            return "what other programs use is not known"
        return f"other programs use {max(0.0, round(self.others, 1)):g} of {round(self.cores, 1):g} cores now"
