"""What a measurement depends on that can be seen without a framework: the GPU or CPU of this box."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

NVIDIA_PROC = Path("/proc/driver/nvidia")


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is present, usable or not."""
    return (NVIDIA_PROC / "version").exists() or shutil.which("nvidia-smi") is not None


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name with the number of cores this process may use, e.g. `AMD EPYC 9B14 (2 cores)`.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    except OSError:
        pass  # not Linux: the platform's own word stands
    return f"{name.replace(',', '')} ({cpu_count()} cores)"


def gpu_names() -> list[str]:
    """Model names of the NVIDIA GPUs that the driver lists, e.g. `NVIDIA A100 80GB PCIe`; empty without a driver."""
    names = []
    for information in sorted(NVIDIA_PROC.glob("gpus/*/information")):
        for line in information.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.append(value.strip())
    return names


def box_device_name() -> str:
    """The device that a run on this box uses unless told otherwise: its first GPU, else its CPU."""
    return (gpu_names() or [cpu_name()])[0]


def load_average() -> float | None:
    """One-minute load average, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def utc_now() -> str:
    """The time now, ISO 8601 with offset, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
