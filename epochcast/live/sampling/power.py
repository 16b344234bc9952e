"""The power that a device draws while a training is estimated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from epochcast.energy.meter import PowerMeter
from epochcast.machine.gpu_driver import gpu_of, open_driver

SHORTEST_SEC = 1.0  # of a window: counters move ten times a second
PERIOD_SEC = 0.1  # between readings
RAPL = "rapl"  # the source where a processor's packages are measured


@dataclass(frozen=True, slots=True)
class MeteredPower:
    """Mean power over some seconds, of a GPU's board or a processor's packages."""

    mean_w: float
    sec: float
    source: str  # nvml_counter | nvml_poll_instant | nvml_poll_avg1s | RAPL
    flags: tuple[str, ...] = ()  # of `energy.reading.ENERGY_FLAGS`


class Meter:
    """A running meter of this process's device."""

    def __init__(self, meter: PowerMeter, is_gpu: bool) -> None:
        self._meter, self._is_gpu = meter, is_gpu

    def power(self, start: float, end: float) -> MeteredPower | None:
        """Mean power between two times of `time.perf_counter`; None where nothing measures it."""
        if end - start < SHORTEST_SEC:
            return None
        found = self._meter.reading(start, end, 1)
        sec = end - start
        if not self._is_gpu:
            return None if not found.cpu_energy_j else MeteredPower(found.cpu_energy_j / sec, sec, RAPL)
        if found.mean_power_w is None or found.energy_estimated:
            return None
        return MeteredPower(found.mean_power_w, sec, found.energy_source, found.energy_flags)


@contextmanager
def metering(is_gpu: bool, period_sec: float = PERIOD_SEC) -> Iterator[Meter]:
    """Measure the power of this process's device inside of the block, each `period_sec`."""
    driver = open_driver("auto") if is_gpu else None
    gpu = None if driver is None else gpu_of(driver, "auto")
    meter = PowerMeter(gpu, period_sec=period_sec, clock=time.perf_counter)
    meter.start()
    try:
        yield Meter(meter, is_gpu)
    finally:
        if meter.stop() and driver is not None:
            driver.close()
