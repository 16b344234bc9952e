"""NVIDIA's GPUs: which one a run uses by NVIDIA's driver, and why it can't use one.

A run sees the GPUs that CUDA_VISIBLE_DEVICES lets it see (`cuda_visible`). What they are is asked of NVML;
where that does not answer, or not with a name, of CUDA's own library, which frameworks ask; of the kernel
(/proc/driver/nvidia) last. The driver is asked once per process.
"""

from __future__ import annotations

import functools
import itertools
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from epochcast.machine.gpu.cuda_library import asked_of_cuda
from epochcast.machine.gpu.cuda_visible import ORDER, VISIBLE, Listed, Seen, UnknownOrderError, seen_by, shown_to_cuda
from epochcast.machine.gpu.driver_names import clean_name, clean_uuid, is_instance, unknown_gpu
from epochcast.machine.gpu.driver_signs import (
    CONTAINER_VISIBLE,
    driver_signs,
    kernel_driver_version,
    proc_gpus,
    why_lost,
    why_no_answer,
    why_no_gpu,
    why_no_instance,
    why_no_library,
)
from epochcast.machine.gpu.nvml import NO_LIBRARY, Nvml, NvmlFailure, start_nvml
from epochcast.machine.gpu.vendor import Device, Refusal, processor
from epochcast.text_sinks import shortened

MOST_LISTED = 8  # GPUs in a message


class Nvidia:
    """NVIDIA as a `Vendor`."""

    name = "NVIDIA"
    library = "NVML"
    runtime = Nvml.runtime
    variables = (VISIBLE, ORDER, CONTAINER_VISIBLE, "PATH", "LD_LIBRARY_PATH")

    def device_of(self, device: str, environ: Mapping[str, str]) -> Device | None:
        """Return the device that a run uses; None on a box without any sign of an NVIDIA driver."""
        found = _device_of(device, tuple((name, environ.get(name)) for name in self.variables))
        return None if found is None else replace(found, vendor=self.name)

    def usable_gpus(self, environ: Mapping[str, str]) -> list[Device]:
        """Return the GPUs and instances that a run can use: those that CUDA_VISIBLE_DEVICES shows, without it all."""
        if (visible := environ.get(VISIBLE)) is None:
            listed = (own for gpu in _driver().gpus for own in (gpu.instances if gpu.is_mig else (gpu,)))
            found = [self.device_of(own.uuid, environ) for own in listed if own.uuid is not None]
        else:  # what is hidden may be somebody else's, and so is what stands behind the first unknown word
            seen = (self.device_of("auto", {**environ, VISIBLE: word}) for word in visible.split(","))
            found = list(itertools.takewhile(lambda device: device is not None and device.refusal is None, seen))
        return [device for device in found if device is not None and device.refusal is None and device.uuid is not None]

    def shown(self, device: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which a framework sees this device and no other."""
        if _driver().lost and (own := self.device_of(device, environ)) is not None and own.uuid is not None:
            return shown_to_cuda(own.uuid, environ)  # whether CUDA counts a GPU that is lost is not known
        return shown_to_cuda(device, environ)

    def hidden(self) -> dict[str, str]:
        """Return the variables by which a framework sees no NVIDIA GPU."""
        return {VISIBLE: "-1"}

    def open(self) -> Nvml | None:
        """Return the driver's library, open; None where it does not answer."""
        opened = start_nvml()
        return opened if isinstance(opened, Nvml) else None

    def problem(self) -> str | None:
        """Return in words why the driver's library can't be used; None where it can."""
        opened = start_nvml()
        if isinstance(opened, NvmlFailure):
            return opened.words
        opened.close()
        return None

    def kernel_version(self) -> str | None:
        """Return the driver's version by the kernel."""
        return kernel_driver_version()

    def forget(self) -> None:
        """Ask the driver anew the next time."""
        _device_of.cache_clear()
        _driver.cache_clear()


@dataclass(frozen=True, slots=True)
class _Driver:
    """What the driver's library says of this box."""

    gpus: tuple[Listed, ...] = ()  # also those that are lost
    failure: NvmlFailure | None = None
    lost: Mapping[int, NvmlFailure] = field(default_factory=dict)  # index: why it can't be used
    why_no_gpu: Refusal | None = None
    problems: tuple[str, ...] = ()


@functools.cache
def _device_of(device: str, variables: tuple[tuple[str, str | None], ...]) -> Device | None:
    environ = {name: value for name, value in variables if value is not None}
    driver, signs = _driver(), driver_signs(environ)
    if driver.failure is None and driver.gpus:
        return _of_listed(device, driver.gpus, environ, driver.problems, driver.lost)
    problems = driver.problems if driver.failure is None else (driver.failure.words, *driver.problems)
    listed = tuple(_of_proc())
    if not signs and not listed and driver.failure is not None and driver.failure.code is None:
        return None
    if (by_cuda := asked_of_cuda(device, environ)) is not None:
        return replace(by_cuda, problems=problems)
    refusal = _refusal(driver, signs, environ)
    if not listed:
        return replace(processor(), refusal=refusal, problems=problems)
    found = _of_listed(device, listed, environ, problems)
    return replace(found, refusal=found.refusal or refusal)


def _refusal(driver: _Driver, signs: list[str], environ: Mapping[str, str]) -> Refusal:
    if driver.failure is None:
        return driver.why_no_gpu or why_no_gpu(environ)
    if driver.failure.words == NO_LIBRARY:
        return why_no_library(signs, environ)
    also = "" if driver.failure.code is not None else "; CUDA does not answer either"
    return why_no_answer(f"{driver.failure.words}{also}", driver.failure.code)


def _of_listed(
    device: str,
    gpus: tuple[Listed, ...],
    environ: Mapping[str, str],
    problems: tuple[str, ...],
    lost: Mapping[int, NvmlFailure] = MappingProxyType({}),
) -> Device:
    """The device among GPUs that a source lists."""
    try:
        seen = seen_by(device, gpus, environ)
    except UnknownOrderError as error:
        is_of_order = str(error).startswith(ORDER)
        remedy = f"unset {ORDER}, or name the GPU: --device UUID (`nvidia-smi -L`)" if is_of_order else "name it gpu:N"
        refusal = Refusal(str(error), remedy)
        name = unknown_gpu(platform.node(), device, environ.get(VISIBLE), environ.get(ORDER))
        return Device("gpu", name, is_named=False, refusal=refusal, n_gpus=len(gpus), problems=problems)
    if seen is not None and seen.gpu.index in lost:
        others = [f"--device gpu:{gpu.index} ({_called(gpu)})" for gpu in gpus if gpu.index not in lost]
        refusal = why_lost(lost[seen.gpu.index].words, lost[seen.gpu.index].code, others)
        name = unknown_gpu(platform.node(), "lost", seen.gpu.index)
        return Device("gpu", name, is_named=False, refusal=refusal, n_gpus=len(gpus), problems=problems)
    if seen is not None:
        why = why_no_instance(seen.gpu.index, _called(seen.gpu)) if seen.gpu.lacks_instances else None
        problems = (*problems, *seen.gpu.problems)
        return replace(_of_seen(seen, device, environ), refusal=why, n_gpus=len(gpus), problems=problems)
    names = ", ".join(
        [*map(_called, gpus[:MOST_LISTED]), *([f"{more} more"] if (more := len(gpus) - MOST_LISTED) > 0 else [])]
    )
    if device not in ("auto", "gpu"):
        refusal = Refusal(f"--device {shortened(device)} is none of: {names}", "see `nvidia-smi -L`")
        name = unknown_gpu(platform.node(), device)
        return Device("gpu", name, is_named=False, refusal=refusal, n_gpus=len(gpus), problems=problems)
    refusal = Refusal(
        f"{VISIBLE}={shortened(repr(environ.get(VISIBLE)))} hides the GPUs of this box ({names})", "unset it"
    )
    return replace(processor(), refusal=refusal, n_gpus=len(gpus), problems=problems)


def _called(gpu: Listed) -> str:
    """What a message calls a GPU."""
    return gpu.name or (gpu.problems[0] if gpu.is_lost else "a GPU without a name")


def _of_seen(seen: Seen, device: str, environ: Mapping[str, str]) -> Device:
    gpu, own = seen.gpu, seen.instance or seen.gpu
    name = gpu.name if gpu.is_mig and not is_instance(own.name) else own.name
    totals = {instance.memory_bytes for instance in gpu.instances} if gpu.is_mig else {gpu.memory_bytes}
    memory = seen.instance.memory_bytes if seen.instance else totals.pop() if len(totals) == 1 else None
    if name is None:
        pinned = own.uuid or device
        if (by_cuda := asked_of_cuda(pinned, environ)) is not None and by_cuda.is_named:
            name = by_cuda.name
        else:
            name = next((known.name for known in _of_proc() if gpu.uuid is not None and known.uuid == gpu.uuid), None)
        name = name or own.name
    if gpu.is_mig and name is not None and not is_instance(name):
        name = f"{name} MIG"  # an instance is not the whole GPU
    limit = None if gpu.is_mig else gpu.power_limit_w
    marks = [mark for mark in (own.uuid, gpu.pci_bus_id) if mark is not None][:1]
    stand_in = unknown_gpu(*(marks if own.uuid else [platform.node(), *marks, gpu.index]))
    named = [problem for problem in gpu.problems if problem.startswith("nvmlDeviceGetName")]
    why_unnamed = next(iter(named), None) if name is None else None
    return Device("gpu", name or stand_in, own.uuid, memory, limit, is_named=name is not None, why_unnamed=why_unnamed)


@functools.cache
def _driver() -> _Driver:
    nvml = start_nvml()
    if isinstance(nvml, NvmlFailure):
        return _Driver(failure=nvml)
    with nvml:
        listed = nvml.listed()
        problems = tuple(f"{query}: {words}" for query, words in nvml.problems.items())
        if nvml.count_failure is not None:
            why = why_no_answer(nvml.count_failure.words, nvml.count_failure.code)
            return _Driver(why_no_gpu=why, problems=problems)
        if nvml.unusable and all(gpu.is_lost for gpu in listed):
            first = next(iter(nvml.unusable.values()))
            return _Driver(why_no_gpu=why_lost(first.words, first.code), problems=problems)
        return _Driver(listed, lost=nvml.lost, problems=problems)


def _of_proc() -> list[Listed]:
    return [
        Listed(index, clean_name(found.get("Model")), clean_uuid(found.get("GPU UUID")), found["address"])
        for index, found in enumerate(proc_gpus())
    ]
