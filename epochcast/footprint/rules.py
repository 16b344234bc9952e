"""What a user asks of a footprint; a command's flags make it before any table of facts is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochcast.facts.regions import Region

ENERGY_FORMULAS = ("board_power", "mlcost")


@dataclass(frozen=True, slots=True)
class FootprintRules:
    """Where a run is done and what of its costs is given; the facts have the rest, by default of the world."""

    regions: tuple[Region, ...] = ()
    usd_per_kwh: float | None = None
    gco2_per_kwh: float | None = None
    pue: float | None = None
    usd_per_gpu_hour: float | None = None
    host_w: float | None = None  # mean power of all but the GPU boards; of a box that trains on its processor, of all
    board_w: float | None = None  # mean power of the GPU board (else of the processor package) while training
    has_embodied: bool = False
    energy_formula: str = "board_power"

    def __post_init__(self) -> None:
        for name in ("usd_per_kwh", "gco2_per_kwh", "usd_per_gpu_hour", "host_w"):
            if (value := getattr(self, name)) is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value:g}.")
        if self.board_w is not None and not (math.isfinite(self.board_w) and self.board_w > 0):
            raise ValueError(f"board_w must be a finite number above 0, got {self.board_w:g}.")
        if self.pue is not None and not (math.isfinite(self.pue) and self.pue >= 1):
            raise ValueError(f"pue must be at least 1 (no building takes less than its computers), got {self.pue:g}.")
        if self.energy_formula not in ENERGY_FORMULAS:
            raise ValueError(
                f"energy_formula must be one of {', '.join(ENERGY_FORMULAS)}, got {self.energy_formula!r}."
            )
        if self.energy_formula == "mlcost" and (self.pue is not None or self.host_w is not None):
            raise ValueError("energy_formula mlcost counts host and cooling itself: leave pue and host_w out.")
        if self.energy_formula == "mlcost" and self.board_w is not None:
            raise ValueError("energy_formula mlcost takes the power of the data sheet: leave board_w out.")
