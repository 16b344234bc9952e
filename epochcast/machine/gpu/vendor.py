"""What is asked of the driver of a GPU, whoever made it: the protocols behind `epochcast.machine.gpu_driver`.

A vendor is one class that answers to `Vendor`, with its files behind it, and stands in `gpu_driver.VENDORS`. Everything
else asks the driver through `gpu_driver`. None is always "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from epochcast.machine.host.host import cpu_name, memory_bytes

Processes = list[tuple[int, int | None]]  # process id, device memory in bytes
ON_CPU = "--device cpu measures the processor"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run can't have the device that it asks for, and what to do about it."""

    cause: str
    remedy: str
    is_certain: bool = True  # else a framework may have a device that no driver here knows

    def __str__(self) -> str:
        return f"{self.cause.rstrip('.')}. {self.remedy[0].upper()}{self.remedy[1:]}; {ON_CPU}."


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
    why_unnamed: str | None = None  # what was answered, or raised, instead of a name
    vendor: str = ""  # whose driver was asked; empty for a processor on a box without one

    @property
    def memory_bytes(self) -> int | None:
        """Return all memory of the device; a processor's is asked only here, since psutil takes long to start."""
        return memory_bytes()[0] if self.kind == "cpu" else self.gpu_memory_bytes


def processor() -> Device:
    """Return the processor of this box as a device."""
    return Device("cpu", cpu_name())


class PowerSensors(Protocol):
    """What the meter asks of a GPU, several times a second."""

    @property
    def library(self) -> str:
        """The driver's library, in lower case: it begins the sources of energy in rows (`nvml_counter`)."""

    @property
    def name(self) -> str | None: ...
    @property
    def uuid(self) -> str | None: ...
    @property
    def is_mig(self) -> bool:
        """Whether the GPU is cut into instances: its readings are then those of all of them."""

    @property
    def power_is_module(self) -> bool:
        """Whether power is read of a whole module: GPU, processor and memory."""

    def power_limit_w(self) -> float | None: ...
    def energy_j(self) -> float | None:
        """Return the energy of the board since some moment in the past."""

    def power_instant_w(self) -> float | None: ...
    def power_average_w(self) -> float | None:
        """Return the power averaged over about a second."""

    def temperature_c(self) -> float | None: ...
    def sm_clock_mhz(self) -> float | None: ...
    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Return what keeps the clock below its highest, in the words of rows (`epochcast.machine.disturbance`)."""

    def compute_processes(self) -> Processes | None: ...
    def processes(self) -> Processes | None:
        """Return everything that computes or draws on the GPU."""


class GpuSensors(PowerSensors, Protocol):
    """One GPU of an open driver: what the doctor and the environment of a run ask besides."""

    problems: dict[str, str]  # query: what was raised that is not the driver's answer

    @property
    def tool(self) -> str:
        """The command by which people look at the GPU."""

    @property
    def power_command(self) -> str:
        """The command by which people see its power."""

    @property
    def architecture(self) -> str | None: ...
    def max_sm_clock_mhz(self) -> float | None: ...
    def memory_clock_mhz(self) -> float | None: ...
    def memory_used_bytes(self) -> int | None: ...
    def memory_total_bytes(self) -> int | None:
        """Return what a run can use."""

    def utilization(self) -> float | None:
        """Return the share of the last moment in which something ran, 0 to 1."""

    def ecc_enabled(self) -> bool | None: ...
    def mig_enabled(self) -> bool | None: ...
    def persistence_enabled(self) -> bool | None: ...


class Driver(Protocol):
    """A vendor's driver, open."""

    problems: dict[str, str]

    @property
    def driver_version(self) -> str | None: ...
    @property
    def runtime(self) -> str:
        """What frameworks compute with on its GPUs, as people call it: `CUDA`."""

    @property
    def runtime_version(self) -> str | None:
        """The newest version of the runtime that the driver takes."""

    def gpu_of(self, device: str, environ: Mapping[str, str]) -> GpuSensors | None:
        """Return the GPU that a run with `--device device` uses, to be asked while the driver is open."""

    def close(self) -> None: ...


class Vendor(Protocol):
    """A maker of GPUs. Whatever its driver does, no method raises an error."""

    @property
    def name(self) -> str:
        """As people call it."""

    @property
    def library(self) -> str:
        """The driver's library, as people call it."""

    @property
    def runtime(self) -> str:
        """That of its drivers."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that its answers depend on."""

    def device_of(self, device: str, environ: Mapping[str, str]) -> Device | None:
        """Return the device that a run with `--device device` uses; None on a box without any sign of this vendor.

        A GPU, or the processor with a refusal.
        """

    def usable_gpus(self, environ: Mapping[str, str]) -> list[Device]:
        """Return the GPUs and instances that a run can use, each with its UUID: those that `environ` shows."""

    def shown(self, device: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which a framework sees this device and no other."""

    def hidden(self) -> dict[str, str]:
        """Return the variables by which a framework sees none of this vendor's GPUs."""

    def open(self) -> Driver | None:
        """Return the driver, open; None where it does not answer."""

    def problem(self) -> str | None:
        """Return in words why the driver can't be asked; None where it can."""

    def kernel_version(self) -> str | None:
        """Return the driver's version by the kernel, for a box whose driver does not answer."""

    def forget(self) -> None:
        """Ask the driver anew the next time."""
