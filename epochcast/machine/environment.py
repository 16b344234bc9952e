"""What a measurement depends on that can be seen without a framework: the GPU, the processor, the system around them.

`framework` reports what only the measuring process can, `gpu_driver` which device a run uses.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epochcast.machine.driver_signs import kernel_driver_version
from epochcast.machine.git import git_commit
from epochcast.machine.host import (
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
    from epochcast.machine.nvml import Nvml, NvmlGpu

# environment variables that change what is measured, or where; no more, since others hold passwords (TF_TOKEN_...)
SETTINGS = re.compile(
    r"(CUDA|CUDNN|CUBLAS|XLA|JAX|OMP|MKL|OPENBLAS)_\w+|NVIDIA_(TF32_OVERRIDE|VISIBLE_DEVICES)|KERAS_(BACKEND|HOME)|"
    r"KERAS_TORCH_DEVICE|PYTORCH_\w*ALLOC_CONF|TORCH_(ALLOW|BLAS|COMPILE|CUDNN)_\w+|TORCHINDUCTOR_\w+|"
    r"TF_(XLA|CPP|GPU|CUDA|CUDNN|CUBLAS|ENABLE|DISABLE|USE|FORCE|NUM|DETERMINISTIC|AUTOTUNE|SYNC|MKL)_\w+|TF2_BEHAVIOR"
)
LONGEST_SETTING = 2000  # characters


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(usable_cores())


def cpu_name() -> str:
    """The processor's model name with the number of cores this process may use, e.g. `AMD EPYC 9B14 (2 cores)`.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    name = platform.processor() or platform.machine()
    try:  # psutil knows no model
        for line in Path("/proc/cpuinfo").read_text(errors="backslashreplace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    except OSError:
        pass  # not Linux: the platform's own word stands
    return f"{name.replace(',', '')} ({cpu_count()} cores)"


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
        "driver_version": kernel_driver_version() if nvml is None else nvml.driver_version,
        "cuda_driver_version": None if nvml is None else nvml.cuda_version,
        "driver_problems": {} if nvml is None else dict(nvml.problems),
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
