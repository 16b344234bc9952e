"""The energy, money and CO2 of a running fit: to date and at its end."""

from __future__ import annotations

import contextlib
import time
import weakref
from dataclasses import dataclass
from typing import Any

from epochcast.footprint.rules import FootprintRules
from epochcast.interval import Interval, with_ends
from epochcast.live.footprints import footprints
from epochcast.live.sampling.power import MeteredPower, metering
from epochcast.machine.gpu.vendor import Device

PERIOD_SEC = 1.0  # between readings of a meter that may run for days
WINDOW_SEC, WINDOW_SHARE = 10.0, 0.05  # between sums: of so many seconds, later of such a share of the fit


@dataclass(frozen=True, slots=True)
class Used:
    """What some seconds of a fit take; None is unknown."""

    kwh: Interval | None  # at the wall, as far as it is known
    electricity_usd: Interval | None
    cloud_usd: Interval | None  # renting such a GPU for so long
    kg_co2e: Interval | None
    method: str | None  # how the energy is known

    def to_json(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("kwh", "electricity_usd", "cloud_usd", "kg_co2e")}
        return {"method": self.method} | {
            k: v for name, part in parts.items() for k, v in with_ends(name, part).items()
        }


class Usage:
    """Measures a fit's power from now on, and says what it uses."""

    def __init__(self, device: Device, rules: FootprintRules) -> None:
        self._device, self._rules = device, rules
        self._stack = contextlib.ExitStack()
        self._meter = self._stack.enter_context(metering(device.kind != "cpu", PERIOD_SEC))
        self.close = weakref.finalize(self, self._stack.close)  # also of a fit that was interrupted
        self._begin = self._window = time.perf_counter()
        self._joules = self._sec = 0.0
        self.power: MeteredPower | None = None  # the mean since the start; None: nothing measures it

    def read(self, is_end: bool = False) -> None:
        """Add what was read since the last time, where that is long enough."""
        now = time.perf_counter()
        least = 0.0 if is_end else max(WINDOW_SEC, WINDOW_SHARE * (now - self._begin))
        if now - self._window < least or (found := self._meter.power(self._window, now)) is None:
            return
        self._joules += found.mean_w * found.sec
        self._sec += found.sec
        self._window = now
        self.power = MeteredPower(self._joules / self._sec, self._sec, found.source, found.flags)

    def of(self, sec: Interval) -> Used:
        """Return what so many seconds of this fit use."""
        (found,) = footprints(sec, self.power, self._device.name, self._rules, "this fit")
        method = None if found.energy is None else found.energy.words
        return Used(found.wall_kwh, found.electricity_usd, found.cloud_usd, found.operational_kg_co2e, method)
