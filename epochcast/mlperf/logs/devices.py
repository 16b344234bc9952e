"""Which device of the facts a system computes on, by the spelling of its description."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from epochcast.gpus.lookup import UnknownGpuError, find_gpu, limit_in_name
from epochcast.mlperf.logs.systems import System
from epochcast.mlperf.records import CPU

if TYPE_CHECKING:
    from epochcast.facts.tables import Gpu

_TPU = re.compile(r"(tpu-?v\d\w*?)-\d{1,5}\b", re.IGNORECASE)  # with its count of cores


class Device(NamedTuple):
    """What a system computes on; None is unknown."""

    name: str | None  # in the facts; CPU of a system without accelerators
    kind: str | None
    power_limit_w: float | None
    n: int | None
    spelling: str | None


def device_of(system: System) -> Device:
    """Return what a system computes on, and how many of it."""
    if system.n_accelerators == 0:
        return Device(CPU, "cpu", None, system.n_sockets, system.processor)
    if system.accelerator is None:
        return Device(None, None, None, system.n_accelerators, None)
    gpu = _found(system.accelerator, system.name, system.memory, system.interconnect)
    limit_w = limit_in_name(system.accelerator) or system.power_limit_w
    return Device(
        None if gpu is None else gpu.name,
        None if gpu is None else gpu.kind,
        limit_w,
        system.n_accelerators,
        system.accelerator,
    )


@functools.cache
def _found(accelerator: str, system_name: str | None, memory: str | None, interconnect: str | None) -> Gpu | None:
    for name in _spellings(accelerator, system_name, memory, interconnect):
        try:
            return find_gpu(name)
        except UnknownGpuError:
            continue
    return None


def _spellings(accelerator: str, system_name: str | None, memory: str | None, interconnect: str | None) -> list[str]:
    """Return names to look a device up by: its own, then a made one."""
    names = [accelerator]
    told = system_name or "" if accelerator.lower() == "tpu" else accelerator
    if (match := _TPU.match(told)) is not None:
        names.append(match[1])
    elif "nvlink" in (interconnect or "").lower() and (match := re.fullmatch(r"(\d+)\s*G\w*", memory or "")):
        names.append(f"{accelerator} SXM {match[1]}GB")  # boards of one chip and memory differ by their form
    return names
