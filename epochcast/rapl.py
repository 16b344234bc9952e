"""Energy of the processor packages by the running totals that Linux shows (RAPL); a driver or root may hide them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
# whole packages only: cores and memory lie within or beside them (intel-rapl:0:0), psys counts all once more
_ZONE = re.compile(r"intel-rapl:\d+")  # AMD's too


@dataclass(slots=True)
class _Package:
    total: int  # file descriptor of energy_uj
    range_uj: int  # where the total starts again from 0
    last_uj: int
    sum_uj: int = 0

    def read_uj(self) -> int:
        now_uj = int(os.pread(self.total, 32, 0))
        passed_uj = now_uj - self.last_uj
        self.sum_uj += passed_uj if passed_uj >= 0 else passed_uj + self.range_uj
        self.last_uj = now_uj
        return self.sum_uj


class Rapl:
    """The packages of this box, open; ask often enough that no total runs around twice (every 20 minutes or so)."""

    def __init__(self, packages: list[_Package]) -> None:
        self._packages = packages

    def energy_j(self) -> float | None:
        """Energy of all packages since they were opened; None where one can't be read any more."""
        try:
            return sum(package.read_uj() for package in self._packages) / 1e6
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        for package in self._packages:
            os.close(package.total)
        self._packages = []


def open_rapl(root: Path = POWERCAP) -> Rapl | None:
    """The packages under `root`; None where there are none, or one of them may not be read: a part is no sum."""
    packages: list[_Package] = []
    try:
        for zone in sorted(root.iterdir()):
            if _ZONE.fullmatch(zone.name) and (zone / "name").read_text().startswith("package-"):
                range_uj = int((zone / "max_energy_range_uj").read_text())
                package = _Package(os.open(zone / "energy_uj", os.O_RDONLY), range_uj, 0)
                packages.append(package)
                package.read_uj()
                package.sum_uj = 0
    except (OSError, ValueError):
        Rapl(packages).close()
        return None
    return Rapl(packages) if packages else None
