"""What the tests of the real driver library run in a process of its own: meters some seconds and prints JSON.

`metered_child.py SECONDS IDLE_SEC PERIOD_SEC` under `fake_driver.environment`: the fake's time zero is when the meter
has started and idled. `start` and `end` of the metered time are printed beside the reading.
"""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

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


def main() -> None:
    seconds, idle_sec, period_sec = map(float, sys.argv[1:])
    driver, meter, zero = start_meter(idle_sec, period_sec)
    if path := os.environ.get("FAKE_NVML_PROCESS_FILE"):
        Path(path).write_text(f"{os.getpid()}\n")
    end = zero + seconds
    time.sleep(max(0.0, end - time.monotonic()))
    time.sleep(2.5 * period_sec)
    meter.stop()
    reading = meter.reading(zero, end, 2, (zero - idle_sec, zero), {os.getpid()})
    more = {"start": zero, "end": end, "problem": driver_problem(), "reads_power": meter.reads_power}
    print(json.dumps({**asdict(reading), **more}))
    if driver is not None:
        driver.close()


if __name__ == "__main__":
    main()
