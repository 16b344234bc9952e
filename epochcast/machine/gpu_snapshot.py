"""What the driver says of a GPU at one moment, for the environment of a run and of the doctor."""

from __future__ import annotations

from typing import Any

from epochcast.machine.gpu.vendor import Driver, GpuSensors, Vendor
from epochcast.machine.gpu_driver import device_of, vendor_of


def driver_snapshot(device: str, driver: Driver | None = None, gpu: GpuSensors | None = None) -> dict[str, Any]:
    """Return the state of a device's driver and of its GPU as JSON values; None is unknown.

    Without a `gpu` the run measures the processor, or the driver does not answer.
    """
    vendor = vendor_of(device_of(device))
    runtime = vendor.runtime if driver is None else driver.runtime
    return {
        "gpu": None if gpu is None else gpu_snapshot(gpu),
        "driver_version": driver_version(driver, vendor),
        f"{runtime.lower()}_driver_version": None if driver is None else driver.runtime_version,
        "driver_problems": {} if driver is None else dict(driver.problems),
    }


def driver_version(driver: Driver | None, vendor: Vendor) -> str | None:
    """Return the version of a driver; of one that does not answer as the kernel knows it."""
    return vendor.kernel_version() if driver is None else driver.driver_version


def gpu_snapshot(gpu: GpuSensors) -> dict[str, Any]:
    """Return the state of a GPU as JSON values; None is unknown."""
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
