"""What a measurement depends on that can be seen without a framework: the GPU, the processor, the system around them.

`epochcast.framework` tells what only the measuring process can, after its framework is imported.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epochcast.checkout import git_commit
from epochcast.host import (
    boot_time_utc,
    clock_source,
    container,
    cpu_governor,
    cpu_max_mhz,
    cpu_mhz,
    cpu_quota_cores,
    memory_bytes,
    os_name,
    usable_cores,
    virtual_machine,
)

if TYPE_CHECKING:
    from epochcast.nvml import Nvml, NvmlGpu

NVIDIA_PROC = Path("/proc/driver/nvidia")
# environment variables that change what is measured, or where; no more, since others hold passwords (TF_TOKEN_...)
SETTINGS = re.compile(
    r"(CUDA|CUDNN|CUBLAS|XLA|JAX|OMP|MKL|OPENBLAS)_\w+|NVIDIA_(TF32_OVERRIDE|VISIBLE_DEVICES)|KERAS_(BACKEND|HOME)|"
    r"KERAS_TORCH_DEVICE|PYTORCH_\w*ALLOC_CONF|TORCH_(ALLOW|BLAS|COMPILE|CUDNN)_\w+|TORCHINDUCTOR_\w+|"
    r"TF_(XLA|CPP|GPU|CUDA|CUDNN|CUBLAS|ENABLE|DISABLE|USE|FORCE|NUM|DETERMINISTIC|AUTOTUNE|SYNC|MKL)_\w+|TF2_BEHAVIOR"
)
LONGEST_SETTING = 2000  # characters


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is present, usable or not."""
    return (NVIDIA_PROC / "version").exists() or shutil.which("nvidia-smi") is not None


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(usable_cores())


def cpu_name() -> str:
    """The processor's model name with the number of cores this process may use, e.g. `AMD EPYC 9B14 (2 cores)`.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="backslashreplace").splitlines():
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
        with contextlib.suppress(OSError):  # a GPU that fell off the bus
            for line in information.read_text(errors="backslashreplace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "Model":
                    names.append(value.strip())
    return names


def box_device_name() -> str:
    """The device that a run on this box uses unless told otherwise: its first GPU, else its CPU."""
    return (gpu_names() or [cpu_name()])[0]


def driver_version() -> str | None:
    """The NVIDIA driver's version by the kernel's word, for a box whose driver library does not answer."""
    try:
        version = re.search(r"\b\d{3,}\.\d[\d.]*", (NVIDIA_PROC / "version").read_text(errors="replace"))
    except OSError:
        return None
    return None if version is None else version[0]


def load_average() -> float | None:
    """One-minute load average, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def utc_now() -> str:
    """The time now, ISO 8601 with offset, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def settings() -> dict[str, str]:
    """The environment variables that change what is measured, e.g. `CUDA_VISIBLE_DEVICES` and `XLA_FLAGS`."""
    return {name: value[:LONGEST_SETTING] for name, value in sorted(os.environ.items()) if SETTINGS.fullmatch(name)}


def snapshot(gpu: NvmlGpu | None = None, nvml: Nvml | None = None) -> dict[str, Any]:
    """What a measurement depends on, as it is now, as JSON values; None is unknown.

    With no `gpu` the GPU's values are all None: the run measures the processor, or the driver does not answer.
    """
    total, available = memory_bytes()
    return {
        "taken_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "gpu": None if gpu is None else _gpu_snapshot(gpu),
        "driver_version": driver_version() if nvml is None else nvml.driver_version,
        "cuda_driver_version": None if nvml is None else nvml.cuda_version,
        "cpu": {
            "name": cpu_name(),
            "cores_usable": cpu_count(),
            "cores": os.cpu_count(),
            "mhz": cpu_mhz(),
            "max_mhz": cpu_max_mhz(),
            "governor": cpu_governor(),
            "quota_cores": cpu_quota_cores(),
            "load_avg": load_average(),
        },
        "memory_total_bytes": total,
        "memory_available_bytes": available,
        "host": platform.node() or None,
        "os": os_name(),
        "kernel": platform.release() or None,
        "boot_time_utc": boot_time_utc(),
        "clock_source": clock_source(),
        "container": container(),
        "virtual_machine": virtual_machine(),
        "python_version": platform.python_version(),
        "git_commit": git_commit(),
        "settings": settings(),
    }


def _gpu_snapshot(gpu: NvmlGpu) -> dict[str, Any]:
    throttle_reasons, processes = gpu.throttle_reasons(), gpu.processes()
    return {
        "name": gpu.name,
        "uuid": gpu.uuid,
        "architecture": gpu.architecture,
        "sm_clock_mhz": gpu.sm_clock_mhz(),
        "max_sm_clock_mhz": gpu.max_sm_clock_mhz(),
        "memory_clock_mhz": gpu.memory_clock_mhz(),
        "throttle_reasons": None if throttle_reasons is None else list(throttle_reasons),
        "power_limit_w": gpu.power_limit_w(),
        "temperature_c": gpu.temperature_c(),
        "utilization": gpu.utilization(),
        "memory_used_bytes": gpu.memory_used_bytes(),
        "memory_total_bytes": gpu.memory_total_bytes(),
        "processes": None if processes is None else [{"pid": pid, "memory_bytes": used} for pid, used in processes],
        "ecc_enabled": gpu.ecc_enabled(),
        "mig_enabled": gpu.mig_enabled(),
        "persistence_enabled": gpu.persistence_enabled(),
        "problems": dict(gpu.problems),  # last: of all the questions above
    }
