"""What metering costs and how right it is: python benchmarks/bench_power.py

The processor time of the meter's thread at ten readings a second, as a share of one core, against this box's NVIDIA
driver where there is one, and against the tests' fake one (so without the time that a real driver takes), whose true
energy is known: the error over the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.energy.meter import PowerMeter
from epochcast.flag_types import positive_float
from epochcast.machine.gpu_driver import gpu_of, open_driver
from epochcast.output.text import table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically
from tests.support.machines.fake_nvml import build, environment, true_energy_j

TARGET_CORE_PERCENT = 0.2
TARGET_ERROR_PERCENT = 2.0  # over 10 s, with the counter
MODES = {"counter": "", "no counter": "nocounter", "1-s average": "nocounter,nofields"}


def meter_on_this_box(seconds: float) -> None:
    """Meter this process's GPU for some seconds, in which it does nothing else; print what was found as JSON."""
    driver = open_driver()
    meter = PowerMeter(None if driver is None else gpu_of(driver, "auto"))
    meter.start()
    time.sleep(0.5)
    start, cpu = time.monotonic(), time.process_time()
    time.sleep(seconds)
    end, cpu = time.monotonic(), time.process_time() - cpu
    meter.stop()
    reading = meter.reading(start, end, 1)
    found = {"readings": reading.power_samples, "source": reading.energy_source, "energy_j": reading.energy_j_window}
    print(json.dumps({**found, "start": start, "end": end, "cpu_sec": cpu}))


def meter_apart(environ: dict[str, str], seconds: float) -> dict[str, Any]:  # numbers, and the source
    command = [sys.executable, __file__, "--inside", "--seconds", str(seconds)]
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True, cwd=CODE_ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=positive_float, default=10.0, help="metered in each mode (default: 10)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "power.json")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        meter_on_this_box(arguments.seconds)
        return 0
    report = []
    costs, errors = [], []  # what the targets are held against
    has_driver = open_driver() is not None
    with tempfile.TemporaryDirectory() as folder:
        has_fake = build(Path(folder)) is not None
        if not has_fake and not has_driver:
            print("error: no NVIDIA driver here, and no C compiler (cc) to build a fake one with", file=sys.stderr)
            return 1
        for name, mode in (({"this box's driver": None} if has_driver else {}) | (MODES if has_fake else {})).items():
            environ = dict(os.environ)
            if mode is not None:
                environ |= environment(Path(folder), mode)
            found = meter_apart(environ, arguments.seconds)
            true_j = None if mode is None else true_energy_j(Path(folder), environ, found["start"], found["end"])
            error = None if true_j is None else 100 * (found["energy_j"] / true_j - 1)
            costs.append(100 * found["cpu_sec"] / (found["end"] - found["start"]))
            if error is not None and found["source"] == "nvml_counter":
                errors.append(abs(error))
            report.append(
                {
                    "driver": name if mode is None else f"fake, {name}",
                    "source": found["source"],
                    "readings": found["readings"],
                    "cpu_us_per_reading": 1e6 * found["cpu_sec"] / found["readings"],
                    "core_percent": costs[-1],
                    "error_percent": error,
                }
            )
    rows = [["" if value is None else value for value in row.values()] for row in report]
    print(table_text(["driver", "source", "readings", "CPU us/reading", "core %", "energy error %"], rows))
    targets = [(f"below {TARGET_CORE_PERCENT} % of a core", max(costs), max(costs) < TARGET_CORE_PERCENT)]
    if errors:
        is_right = max(errors) <= TARGET_ERROR_PERCENT
        targets.append((f"at most {TARGET_ERROR_PERCENT} % energy error with the counter", max(errors), is_right))
    lines = [(what, f"{found:.3g} %", "yes" if is_reached else "NO") for what, found, is_reached in targets]
    print(table_text(("target", "found", "reached"), lines))
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
