"""What the tests of the real driver library run in processes of their own: meters some seconds and gives JSON.

`metered_child.py SECONDS IDLE_SEC PERIOD_SEC` under `fake_driver.environment`: the fake's time zero is when the meter
has started and idled. The true energy, if the library is the fake one, is printed with the reading.

Without arguments it reads many such cases from stdin, as JSON: the variables of each, its three numbers, and the file
for what it would have printed. Each is a fork of this process, which has imported all and has opened no library.
"""

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from epochcast.energy.meter import PowerMeter
from epochcast.machine.gpu.vendor import Driver
from epochcast.machine.gpu_driver import driver_problem, gpu_of, open_driver


def start_meter(idle_sec: float, period_sec: float) -> tuple[Driver | None, PowerMeter, float]:
    """A meter that reads since before the fake's time zero less `idle_sec`, and that time zero."""
    driver_problem()  # loads what takes long
    while True:
        zero = time.monotonic() + idle_sec + 0.2
        os.environ["FAKE_NVML_ZERO"] = repr(zero)
        driver = open_driver()
        meter = PowerMeter(None if driver is None else gpu_of(driver, "auto", {}), period_sec=period_sec)
        meter.start()
        if time.monotonic() < zero - idle_sec:
            return driver, meter, zero
        meter.stop()  # a busy box
        if driver is not None:
            driver.close()


AT_ONCE = 9  # most of their time they sleep


def true_energy_j(start: float, end: float) -> float | None:
    """Return what the fake's first GPU drew between two times, None if the driver is no fake."""
    if "FAKE_NVML_MODE" not in os.environ:
        return None
    truth = ctypes.CDLL("libnvidia-ml.so.1").fake_nvml_true_energy_j
    truth.restype, truth.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_double, ctypes.c_double]
    return float(truth(0, start, end))


def meter_for(seconds: float, idle_sec: float, period_sec: float) -> dict[str, Any]:
    """Meter some seconds; the reading, and what a test compares it with."""
    driver, meter, zero = start_meter(idle_sec, period_sec)
    if path := os.environ.get("FAKE_NVML_PROCESS_FILE"):
        Path(path).write_text(f"{os.getpid()}\n")
    end = zero + seconds
    time.sleep(max(0.0, end - time.monotonic()))
    time.sleep(2.5 * period_sec)
    meter.stop()
    reading = meter.reading(zero, end, 2, (zero - idle_sec, zero), {os.getpid()})
    more = {"true_j": true_energy_j(zero, end), "problem": driver_problem(), "reads_power": meter.reads_power}
    if driver is not None:
        driver.close()
    return {**asdict(reading), **more}


def fork_for(variables: Mapping[str, str], times: list[float], file: str) -> None:
    """Meter in a fork that sees these variables; what it found is written to the file."""
    if os.fork():
        return
    try:
        os.environ.update(variables)
        Path(file).write_text(json.dumps(meter_for(*times)))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(meter_for(*map(float, sys.argv[1:]))))
        return 0
    worst, running = 0, 0
    for case in [*json.load(sys.stdin), *[None] * AT_ONCE]:
        if running == AT_ONCE or (case is None and running):
            worst = max(worst, os.waitstatus_to_exitcode(os.wait()[1]))
            running -= 1
        if case is not None:
            fork_for(*case)
            running += 1
    return worst


if __name__ == "__main__":
    sys.exit(main())
