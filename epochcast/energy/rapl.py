"""Energy of the processor packages by the running totals that Linux shows (RAPL); a driver or root may hide them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from epochcast.machine.gpu.sensor_bounds import MOST_PACKAGE_W

POWERCAP = Path("/sys/class/powercap")
LAG_SEC = 1.0  # totals move a thousand times a second, but a reading may be late
# whole packages only: cores and memory lie within or beside them (intel-rapl:0:0), psys counts all once more
_ZONE = re.compile(r"intel-rapl:\d+")  # AMD's too


@dataclass(slots=True)
class _Package:
    total: int  # file descriptor of energy_uj
    range_uj: int  # where the total starts again from 0
    last_uj: int
    last_sec: float
    sum_uj: int = 0
    is_lost: bool = False  # some energy was not counted: the sum is never right again

    def read_uj(self, now_sec: float) -> int:
        """Energy since the package was opened.

        A total that is smaller than before has run around once, or has begun anew (a package that was switched off).
        Only the first gives a power that a package can have.

        Raises:
            ValueError: if it began anew, now or before, or was not read for so long that it may have run around twice.
        """
        now_uj = int(os.pread(self.total, 32, 0))
        passed_sec = max(0.0, now_sec - self.last_sec)
        passed_uj = now_uj - self.last_uj + (self.range_uj if now_uj < self.last_uj else 0)
        is_power_possible = 0 <= passed_uj <= 1e6 * MOST_PACKAGE_W * (passed_sec + LAG_SEC)
        self.is_lost |= not is_power_possible or 1e6 * MOST_PACKAGE_W * passed_sec >= self.range_uj
        if self.is_lost:
            raise ValueError("the total of a processor package began anew, or was not read for long.")
        self.sum_uj += passed_uj
        self.last_uj, self.last_sec = now_uj, now_sec
        return self.sum_uj


class Rapl:
    """The packages of this box, open; ask often enough that no total runs around twice (within a minute)."""

    def __init__(self, packages: list[_Package], clock: Callable[[], float] = time.monotonic) -> None:
        self._packages = packages
        self._clock = clock

    def energy_j(self) -> float | None:
        """Energy of all packages since they were opened; None where one can't be read any more, or began anew."""
        try:
            return sum(package.read_uj(self._clock()) for package in self._packages) / 1e6
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        for package in self._packages:
            os.close(package.total)
        self._packages = []


def open_rapl(root: Path = POWERCAP, clock: Callable[[], float] = time.monotonic) -> Rapl | None:
    """The packages under `root`; None where there are none, or one of them may not be read: a part is no sum."""
    packages: list[_Package] = []
    try:
        for zone in sorted(root.iterdir()):
            if _ZONE.fullmatch(zone.name) and (zone / "name").read_text().startswith("package-"):
                range_uj = int((zone / "max_energy_range_uj").read_text())
                total = os.open(zone / "energy_uj", os.O_RDONLY)
                packages.append(package := _Package(total, range_uj, 0, 0.0))
                package.last_uj, package.last_sec = int(os.pread(total, 32, 0)), clock()
    except (OSError, ValueError):
        Rapl(packages).close()
        return None
    return Rapl(packages, clock) if packages else None
