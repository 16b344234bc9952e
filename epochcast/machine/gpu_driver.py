"""The one way to a GPU's driver: which device a run uses, and its sensors.

The one answer for rows, names of runs, grids, plans, models, meter and estimates. Behind it stand the vendors, today
NVIDIA; another one is a class in `VENDORS` that answers to `gpu.vendor.Vendor`, and nothing else changes.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping

from epochcast.machine.gpu.driver_names import unknown_gpu
from epochcast.machine.gpu.nvidia import Nvidia
from epochcast.machine.gpu.vendor import Device, Driver, GpuSensors, Refusal, Vendor, processor
from epochcast.text_sinks import shortened

VENDORS: tuple[Vendor, ...] = (Nvidia(),)  # asked in this order: the first with a usable GPU has it


def device_of(device: str = "auto", environ: Mapping[str, str] = os.environ) -> Device:
    """Return the device that a run with `--device device` uses in this environment."""
    variables = tuple((name, environ.get(name)) for vendor in VENDORS for name in vendor.variables)
    return _device_of(device, variables)


@functools.cache
def _device_of(device: str, variables: tuple[tuple[str, str | None], ...]) -> Device:
    environ = {name: value for name, value in variables if value is not None}
    if device == "cpu":
        return processor()
    refused = None
    for vendor in VENDORS:
        if (found := vendor.device_of(device, environ)) is not None:
            if found.refusal is None:
                return found
            refused = refused or found
    if refused is not None:
        return refused
    return processor() if device == "auto" else _none_as_asked(device)


def _none_as_asked(device: str) -> Device:
    refusal = Refusal(
        f"--device {shortened(device)}, but there is no {vendor_names()} driver", "install it", is_certain=False
    )
    name = unknown_gpu(platform.node(), device)
    return Device("gpu", name, is_named=False, refusal=refusal, vendor=VENDORS[0].name)


def gpus_of_this_box(environ: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the GPUs and instances that a run on this box can use, each with its UUID.

    All of the box, or those that the environment shows.
    """
    return [gpu for vendor in VENDORS for gpu in vendor.usable_gpus(environ)]


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
    return list(dict.fromkeys([box_device_name(), *(gpu.name for gpu in gpus_of_this_box())]))


def refusal_notes(device: str = "auto") -> list[str]:
    """Return why this box would refuse a run, for answers that need none; empty where it would not."""
    refusal = device_of(device).refusal
    return [] if refusal is None or not refusal.is_certain else [f"this box would refuse a run: {refusal}"]


def vendor_of(device: Device) -> Vendor:
    """Return the vendor of a device; of one that is nobody's the first."""
    return next((vendor for vendor in VENDORS if vendor.name == device.vendor), VENDORS[0])


def vendor_names() -> str:
    """Return the vendors whose GPUs can be measured, in words."""
    return " or ".join(vendor.name for vendor in VENDORS)


def open_driver(device: str = "auto", environ: Mapping[str, str] = os.environ) -> Driver | None:
    """Return the driver of the device that a run uses, open; of a processor any that answers, None where none does."""
    own = device_of(device, environ).vendor
    in_order = sorted(VENDORS, key=lambda vendor: vendor.name != own)
    return next((driver for vendor in in_order if (driver := vendor.open()) is not None), None)


def gpu_of(driver: Driver, device: str, environ: Mapping[str, str] = os.environ) -> GpuSensors | None:
    """Return the GPU that a run with `--device device` uses, to be asked while its driver is open.

    None for the processor, or where it is not known which one it is.
    """
    return None if device == "cpu" else driver.gpu_of(device, environ)


def driver_problem(device: str = "auto", environ: Mapping[str, str] = os.environ) -> str | None:
    """Return in words why the driver of a device can't be asked; None where it can."""
    return vendor_of(device_of(device, environ)).problem()


def environment_of(device: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables by which a framework sees the device of `device_of` and no other; set before its import."""
    if device != "cpu":
        return vendor_of(device_of(device, environ)).shown(device, environ)
    hidden = {name: value for vendor in VENDORS for name, value in vendor.hidden().items()}
    return {**hidden, "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}  # the last: a Mac's GPU


def forget() -> None:
    """Have the drivers asked anew, for tests that change them."""
    _device_of.cache_clear()
    for vendor in VENDORS:
        vendor.forget()
