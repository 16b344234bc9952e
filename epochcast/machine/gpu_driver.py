"""Which device a run uses: the one answer for rows, names of runs, grids, plans, models, meter and estimates.

A run sees the GPUs that CUDA_VISIBLE_DEVICES lets it see (`cuda_visible`). What they are is asked of NVML;
where that does not answer, or not with a name, of CUDA's own library, which frameworks ask; of the kernel
(/proc/driver/nvidia) last. The driver is asked once per process.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from epochcast.machine.cuda_visible import ORDER, VISIBLE, Listed, Seen, UnknownOrderError, first_visible, seen_by
from epochcast.machine.driver_names import clean_name, clean_uuid, is_instance, unknown_gpu
from epochcast.machine.driver_signs import (
    CONTAINER_VISIBLE,
    Refusal,
    driver_signs,
    proc_gpus,
    why_lost,
    why_no_answer,
    why_no_gpu,
    why_no_instance,
    why_no_library,
)
from epochcast.machine.environment import cpu_name
from epochcast.machine.host import memory_bytes
from epochcast.machine.nvml import NO_LIBRARY, Nvml, NvmlFailure, NvmlGpu, start_nvml
from epochcast.text_sinks import shortened

MOST_LISTED = 8  # GPUs in a message
CUDA_TIMEOUT_SEC = 20.0  # a driver that is not loaded yet takes seconds
_OF_ANSWER = (VISIBLE, ORDER, CONTAINER_VISIBLE, "PATH", "LD_LIBRARY_PATH")  # the environment that it depends on
_ASK_CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
device, name, uuid = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
memory = ctypes.c_size_t()
for code in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDeviceGetName(name, 256, device)):
    if code:
        raise SystemExit(f"CUDA error {code}")
total = getattr(cuda, "cuDeviceTotalMem_v2", None)
is_known = total is not None and total(ctypes.byref(memory), device) == 0
ask = getattr(cuda, "cuDeviceGetUuid", None)
digits = bytes(uuid).hex() if ask is not None and ask(ctypes.byref(uuid), device) == 0 else ""
print(json.dumps([name.value.decode("latin-1"), digits, memory.value if is_known else None]))
"""


@dataclass(frozen=True, slots=True)
class Device:
    """The device of a run; None is unknown.

    With a `refusal` there is none to use as asked: `kind` and `name` are then those of what is there all the same.
    """

    kind: str  # gpu | cpu
    name: str  # as rows call it
    uuid: str | None = None
    gpu_memory_bytes: int | None = None
    power_limit_w: float | None = None
    is_named: bool = True  # else `name` is a stand-in, and no other GPU's
    refusal: Refusal | None = None
    n_gpus: int = 0  # that the driver lists
    problems: tuple[str, ...] = ()  # what was answered, or raised, where something is unknown

    @property
    def memory_bytes(self) -> int | None:
        """Return all memory of the device; a processor's is asked only here, since psutil takes long to start."""
        return memory_bytes()[0] if self.kind == "cpu" else self.gpu_memory_bytes


@dataclass(frozen=True, slots=True)
class _Driver:
    """What the driver's library says of this box."""

    gpus: tuple[Listed, ...] = ()  # also those that are lost
    failure: NvmlFailure | None = None
    lost: Mapping[int, NvmlFailure] = field(default_factory=dict)  # index: why it can't be used
    why_no_gpu: Refusal | None = None
    problems: tuple[str, ...] = ()


def device_of(device: str = "auto", environ: Mapping[str, str] = os.environ) -> Device:
    """Return the device that a run with `--device device` uses in this environment."""
    return _device_of(device, tuple((name, environ.get(name)) for name in _OF_ANSWER))


def gpus_here(environ: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the GPUs and instances that a run on this box can use.

    All of the box, or those that CUDA_VISIBLE_DEVICES shows; each has a UUID.
    """
    if (visible := environ.get(VISIBLE)) is None:
        listed = (own for gpu in _driver().gpus for own in (gpu.instances if gpu.is_mig else (gpu,)))
        devices = [device_of(own.uuid) for own in listed if own.uuid is not None]
    else:  # what is hidden may be somebody else's, and so is what stands behind the first unknown word
        seen = (device_of("auto", {**environ, VISIBLE: word}) for word in visible.split(","))
        devices = list(itertools.takewhile(lambda device: device.refusal is None, seen))
    return [device for device in devices if device.refusal is None and device.uuid is not None]


def box_device_name(device: str = "auto") -> str:
    """Return the name of the device that a run on this box uses, as rows call it."""
    return device_of(device).name


def words_of_device(device: str) -> list[str]:
    """Return the words of `--device` that mean the same device on this box, `device` among them."""
    own = device_of(device)
    words = ["auto", "cpu"] if own.kind == "cpu" else ["auto", "gpu", *(f"gpu:{i}" for i in range(own.n_gpus))]
    words += [device, *([] if own.uuid is None else [own.uuid])]
    return [word for word in dict.fromkeys(words) if word == device or _is_one(own, device_of(word))]


def _is_one(one: Device, other: Device) -> bool:
    if one.refusal is not None or other.refusal is not None or one.kind != other.kind:
        return False
    return one.kind == "cpu" or (one.uuid is not None and one.uuid == other.uuid)


def box_device_names() -> list[str]:
    """Return the names of this box's GPUs, or its processor's.

    The device that a run uses unasked is the first.
    """
    return list(dict.fromkeys([box_device_name(), *(gpu.name for gpu in gpus_here())]))


def refusal_notes(device: str = "auto") -> list[str]:
    """Return why this box would refuse a run, for answers that need none; empty where it would not."""
    refusal = device_of(device).refusal
    return [] if refusal is None or not refusal.is_certain else [f"this box would refuse a run: {refusal}"]


def gpu_of(nvml: Nvml, device: str, environ: Mapping[str, str] = os.environ) -> NvmlGpu | None:
    """Return the GPU that a run with `--device device` uses, to be asked while the library is open.

    None for the processor, or where it is not known which one it is. Of a GPU that is cut into instances (MIG) it is
    the whole one with `instance` set.
    """
    if device == "cpu":
        return None
    gpus = nvml.gpus()
    try:
        seen = seen_by(device, _with_lost(gpus, nvml), environ)
    except UnknownOrderError:
        return None
    gpu = next((gpu for gpu in gpus if seen is not None and gpu.index == seen.gpu.index), None)
    if seen is None or gpu is None:
        return None
    instances = {instance.index: instance for instance in (gpu.instances() if seen.instance else ())}
    gpu.instance = None if seen.instance is None else instances.get(seen.instance.index)
    return gpu


def forget() -> None:
    """Have the driver asked anew, for tests that change it."""
    _device_of.cache_clear()
    _driver.cache_clear()


@functools.cache
def _device_of(device: str, variables: tuple[tuple[str, str | None], ...]) -> Device:
    environ = {name: value for name, value in variables if value is not None}
    if device == "cpu":
        return _processor()
    driver, signs = _driver(), driver_signs(environ)
    if driver.failure is None and driver.gpus:
        return _of_listed(device, driver.gpus, environ, driver.problems, driver.lost)
    problems = driver.problems if driver.failure is None else (driver.failure.words, *driver.problems)
    listed = tuple(_of_proc())
    if not signs and not listed and driver.failure is not None and driver.failure.code is None:
        return _processor() if device == "auto" else _none_as_asked(device)
    if (by_cuda := _asked_of_cuda(device, environ)) is not None:
        return replace(by_cuda, problems=problems)
    refusal = _refusal(driver, signs, environ)
    if not listed:
        return replace(_processor(), refusal=refusal, problems=problems)
    found = _of_listed(device, listed, environ, problems)
    return replace(found, refusal=found.refusal or refusal)


def _processor() -> Device:
    return Device("cpu", cpu_name())


def _none_as_asked(device: str) -> Device:
    refusal = Refusal(f"--device {shortened(device)}, but there is no NVIDIA driver", "install it", is_certain=False)
    return Device("gpu", unknown_gpu(platform.node(), device), is_named=False, refusal=refusal)


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
    return replace(_processor(), refusal=refusal, n_gpus=len(gpus), problems=problems)


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
        if (by_cuda := _asked_of_cuda(pinned, environ)) is not None and by_cuda.is_named:
            name = by_cuda.name
        else:
            name = next((known.name for known in _of_proc() if gpu.uuid is not None and known.uuid == gpu.uuid), None)
        name = name or own.name
    if gpu.is_mig and name is not None and not is_instance(name):
        name = f"{name} MIG"  # an instance is not the whole GPU
    limit = None if gpu.is_mig else gpu.power_limit_w
    marks = [mark for mark in (own.uuid, gpu.pci_bus_id) if mark is not None][:1]
    stand_in = unknown_gpu(*(marks if own.uuid else [platform.node(), *marks, gpu.index]))
    return Device("gpu", name or stand_in, own.uuid, memory, limit, is_named=name is not None)


@functools.cache
def _driver() -> _Driver:
    nvml = start_nvml()
    if isinstance(nvml, NvmlFailure):
        return _Driver(failure=nvml)
    with nvml:
        gpus = nvml.gpus()
        problems = tuple(f"{query}: {words}" for query, words in nvml.problems.items())
        if nvml.count_failure is not None:
            why = why_no_answer(nvml.count_failure.words, nvml.count_failure.code)
            return _Driver(why_no_gpu=why, problems=problems)
        if not gpus and nvml.unusable:
            first = next(iter(nvml.unusable.values()))
            return _Driver(why_no_gpu=why_lost(first.words, first.code), problems=problems)
        return _Driver(_with_lost(gpus, nvml), lost=nvml.lost, problems=problems)


def _with_lost(gpus: Sequence[NvmlGpu], nvml: Nvml) -> tuple[Listed, ...]:
    """The GPUs as listed, and those that are lost in their places: CUDA's numbers count them."""
    lost = [Listed(index, is_lost=True, problems=(failure.words,)) for index, failure in nvml.lost.items()]
    listed = [_listed(gpu) for gpu in gpus]
    return tuple(sorted([*listed, *lost], key=lambda gpu: gpu.index) if lost else listed)


def _listed(gpu: NvmlGpu, is_part: bool = False) -> Listed:
    is_mig = not is_part and gpu.is_mig
    instances = tuple(_listed(instance, True) for instance in gpu.instances()) if is_mig else ()
    return Listed(
        gpu.index,
        gpu.name,
        gpu.uuid,
        gpu.pci_bus_id,
        gpu.own_memory_bytes(),
        None if is_part else gpu.power_limit_w(),
        is_mig,
        instances,
        gpu.instance_ids() if is_part else (None, None),
        tuple(f"{query}: {words}" for query, words in gpu.problems.items()),
        lacks_instances=is_mig and not instances and gpu.lacks_instances(),
    )


def _of_proc() -> list[Listed]:
    return [
        Listed(index, clean_name(told.get("Model")), clean_uuid(told.get("GPU UUID")), told["address"])
        for index, told in enumerate(proc_gpus())
    ]


def _asked_of_cuda(device: str, environ: Mapping[str, str]) -> Device | None:
    """What CUDA's library says of the device, None where it has none; it may hang or die: in a process of its own."""
    variables = {**os.environ, **environ}
    for name in {VISIBLE, ORDER} - environ.keys():
        variables.pop(name, None)
    variables |= _environment_of(device, environ)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ASK_CUDA],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CUDA_TIMEOUT_SEC,
        )
        if done.returncode != 0:
            return None
        name, digits, memory = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    uuid = clean_uuid(f"GPU-{'-'.join(parts)}") if len(digits) == 32 else None
    known = clean_name(name)
    return Device(
        "gpu", known or unknown_gpu(uuid or platform.node(), device), uuid, memory, is_named=known is not None
    )


def environment_of(device: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables by which a framework sees the device of `device_of` and no other; set before its import."""
    if device != "cpu" and _driver().lost and (uuid := device_of(device, environ).uuid) is not None:
        return _environment_of(uuid, environ)  # whether CUDA counts a GPU that is lost is not known
    return _environment_of(device, environ)


def _environment_of(device: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    if device == "cpu":
        return {VISIBLE: "-1", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}  # the last: a Mac's GPU
    if device.startswith("gpu:"):  # the N of nvidia-smi, and of the meter
        return {ORDER: "PCI_BUS_ID", VISIBLE: device.removeprefix("gpu:")}
    order = {ORDER: environ.get(ORDER, "PCI_BUS_ID")}
    if device.startswith(("GPU-", "MIG-")):
        return {**order, VISIBLE: device}
    first = first_visible(environ)
    return {**order, VISIBLE: "0" if first is None else first}  # no framework takes another for its first
