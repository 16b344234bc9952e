"""A fake NVIDIA driver library: a known true energy on a box without a GPU, for whole processes.

    folder = fake_nvml.library(tmp_path_factory)  # compiled once per session; skips without a C compiler
    environ = {**os.environ, **fake_nvml.environment(folder, "nocounter,neighbour", high_w=300)}
    subprocess.run([sys.executable, "..."], env=environ)
    joules = fake_nvml.true_energy_j(folder, environ, start, end)  # times of time.monotonic, also the child's

The library must be found when a process starts (LD_LIBRARY_PATH), so the code under test runs in a subprocess. The
first GPU draws `high_w` for the first `duty` of every `period_sec`, else `low_w`, from the moment that `environment`
was called; further GPUs draw `low_w`. Modes, joined by commas:

    (none)        everything answers, as on a Hopper board
    nocounter     no energy counter        nofields   no power by field (older drivers): only the 1-s average
    nopower       no counter, no power     pascal     an old architecture: instantaneous power, no counter, no MIG
    module        power by field only of the module (a superchip)
    denied        no permission for energy, power and processes          noinit   a driver that is not loaded
    error         power and energy fail from at_sec until until_sec      countererror   only the counter does
    reset         the counter starts again from 0 at at_sec
    clockdrop     the clock drops to dropped_mhz from at_sec until until_sec, for drop_reasons (0: it says nothing)
    powercap      the software power cap is in force all the time
    neighbour     a process neighbour_pid computes on the first GPU from at_sec until until_sec
    desktop       a process 1111 draws on the first GPU
    mig           every GPU is cut into two instances (`mig_uuid`)
    nonsense      every fifth power is 3.7 MW, the counter, clocks, temperature, memory and name are impossible
    reversed      the driver numbers the GPUs against the order of their PCI addresses

Settings (defaults): low_w 80, high_w 320, period_sec 3.3, duty 0.5, limit_w 700 (-1: none; 0: says 0),
counter_sec 0.1 (the counter's period), average_sec 1, update_sec 0.1 (of the power reading), at_sec 0, until_sec never,
clock_mhz 1980, dropped_mhz 1200, drop_reasons 64 (the bits of hw_thermal_slowdown, decimal), neighbour_pid 4242,
memory_gib 80 (of a GPU), instance_gib 40 and second_gib 20 (of its two instances), names "NVIDIA Fake 100" (joined by
commas: one for each GPU; bytes by os.fsdecode), init_code and query_code 0 (an error of nvml.h that starting ends with,
or asking for names, UUIDs and memory), process_file (a file of process ids that compute on the first GPU, read at every
query), at_file (a file with a time of time.monotonic, from which at_sec and until_sec count; until it is there nothing
begins).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
_TRUE_ENERGY = (
    "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); truth = library.fake_nvml_true_energy_j; "
    "truth.restype = ctypes.c_double; truth.argtypes = [ctypes.c_int, ctypes.c_double, ctypes.c_double]; "
    "print(repr(truth(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))))"
)


def build(folder: Path) -> Path | None:
    """The library, compiled into `folder`; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    built = folder / "libnvidia-ml.so.1"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-lm"]
    subprocess.run(command, check=True, timeout=60)
    return built


def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the fake `libnvidia-ml.so.1`, compiled at the first call of a test session."""
    import pytest

    folder = tmp_path_factory.getbasetemp() / "fake_nvml"
    if not folder.exists():
        folder.mkdir()
        if build(folder) is None:
            folder.rmdir()
            pytest.skip("no C compiler (cc, gcc or clang) to build the fake NVIDIA driver library with")
    return folder


def environment(folder: Path, mode: str = "", **settings: object) -> dict[str, str]:
    """Environment variables that make a process see the fake driver; its time zero is now."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    variables = {"LD_LIBRARY_PATH": path, "FAKE_NVML_MODE": mode, "FAKE_NVML_ZERO": repr(time.monotonic())}
    return variables | {f"FAKE_NVML_{name.upper()}": str(value) for name, value in settings.items()}


def true_energy_j(folder: Path, environ: Mapping[str, str], start: float, end: float, gpu: int = 0) -> float:
    """What GPU `gpu` really drew between two times of `time.monotonic`, by the library's own closed form."""
    command = [sys.executable, "-c", _TRUE_ENERGY, str(folder / "libnvidia-ml.so.1"), str(gpu), repr(start), repr(end)]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


def gpu_uuid(gpu: int = 0) -> str:
    return f"GPU-{gpu}0000000-fa4e-0000-0000-000000000000"


def mig_uuid(gpu: int = 0, instance: int = 0) -> str:
    return f"MIG-{gpu}{instance}000000-fa4e-0000-0000-000000000000"
