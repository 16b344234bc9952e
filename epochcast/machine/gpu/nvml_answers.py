"""What answers of NVML's Python package mean: numbers within their bounds, switches, processes, errors in words."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from epochcast.machine.gpu.sensor_bounds import MOST_JOULES, MOST_MEMORY_BYTES, number_within
from epochcast.machine.gpu.vendor import Processes

MOST_DEVICES = 128
LONGEST_PROBLEM = 300  # characters


def words_of(error: BaseException) -> str:
    """Return what was raised in words, whatever a broken package raises (SystemExit too); Ctrl-C is passed on."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_PROBLEM].removesuffix(":")


def architectures(pynvml: ModuleType) -> dict[int, str]:
    """Return the names of architectures by NVML's numbers."""
    prefix = "NVML_DEVICE_ARCH_"
    names = (name for name in vars(pynvml) if name.startswith(prefix) and name != f"{prefix}UNKNOWN")
    return {getattr(pynvml, name): name.removeprefix(prefix).capitalize() for name in names}


def count_of(value: object) -> int:
    """Return a count of devices, 0 for whatever is none."""
    return min(value, MOST_DEVICES) if isinstance(value, int) else 0


def switch_of(value: object) -> bool | None:
    """Return whether something is on; a driver answers 0 or 1."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def bytes_of(value: object, most: int | None = None) -> int | None:
    """Return bytes of memory; None for whatever can't be, or is above `most`."""
    number = number_within(value, 0, most or MOST_MEMORY_BYTES)
    return None if number is None else int(number)


def processes_of(running: Any) -> Processes:
    """Return process ids with the memory of each."""
    return [(int(process.pid), bytes_of(process.usedGpuMemory)) for process in running]


def thousandth(value: object) -> float | None:
    """Return watts of milliwatts, joules of millijoules; None for whatever can't be."""
    number = number_within(value, 0, 1000 * MOST_JOULES)
    return None if number is None else number / 1000
