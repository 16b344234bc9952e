"""What a measurement depends on that can be seen without a framework or a driver: processor, system, settings.

`framework` reports what only the measuring process can, `gpu.snapshot` the state of a GPU.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from epochcast.machine.git import git_commit
from epochcast.machine.host.host import (
    boot_time_utc,
    clock_source,
    container,
    cpu_count,
    cpu_governor,
    cpu_max_mhz,
    cpu_mhz,
    cpu_name,
    cpu_quota_cores,
    memory_bytes,
    os_name,
    virtual_machine,
)

# environment variables that change what is measured, or where; no more, since others hold passwords (TF_TOKEN_...)
SETTINGS = re.compile(
    r"(CUDA|CUDNN|CUBLAS|XLA|JAX|OMP|MKL|OPENBLAS)_\w+|NVIDIA_(TF32_OVERRIDE|VISIBLE_DEVICES)|KERAS_(BACKEND|HOME)|"
    r"KERAS_TORCH_DEVICE|PYTORCH_\w*ALLOC_CONF|TORCH_(ALLOW|BLAS|COMPILE|CUDNN)_\w+|TORCHINDUCTOR_\w+|"
    r"TF_(XLA|CPP|GPU|CUDA|CUDNN|CUBLAS|ENABLE|DISABLE|USE|FORCE|NUM|DETERMINISTIC|AUTOTUNE|SYNC|MKL)_\w+|TF2_BEHAVIOR"
)
LONGEST_SETTING = 2000  # characters


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


def snapshot(of_driver: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a measurement depends on, as it is now, as JSON values; None is unknown.

    Args:
        of_driver: what `epochcast.machine.gpu_snapshot` reports of the driver and the GPU.
    """
    total, available = memory_bytes()
    return {
        "taken_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **of_driver,
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
