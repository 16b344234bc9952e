"""The NVIDIA GPUs of this box as the driver's own library (NVML) tells of them; None is what it will not say.

Whatever its Python package raises is no answer as well, and so is what no GPU can be (`epochcast.sensor_bounds`).

NVML needs no CUDA and no framework, and asking it does not touch a program that computes. It numbers the GPUs by their
PCI address; CUDA's numbers are others (`visible_gpu`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from ctypes import byref, c_int, c_uint, c_ulonglong
from functools import partial
from types import ModuleType, TracebackType
from typing import Any

from epochcast.sensor_bounds import (
    HIGHEST_TEMPERATURE_C,
    LOWEST_TEMPERATURE_C,
    MOST_BOARD_W,
    MOST_CLOCK_MHZ,
    MOST_JOULES,
    MOST_MEMORY_BYTES,
    number_within,
    positive_within,
)

logger = logging.getLogger(__name__)

CLOCK_REASONS = {  # bit of nvmlDeviceGetCurrentClocksEventReasons (nvml.h): our word; idle (1) slows nothing down
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
_GPU_SCOPE, _MODULE_SCOPE = 0, 1  # nvml.h: NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE
MOST_DEVICES = 128
LONGEST_PROBLEM = 300  # characters
Processes = list[tuple[int, int | None]]  # process id, device memory in bytes
_Query = Callable[[], int | None]


class NvmlGpu:
    """One physical GPU. Every query asks the driver anew and is None where it does not answer, or a 0 that can't be."""

    def __init__(self, pynvml: ModuleType, index: int, handle: Any) -> None:
        self._pynvml = pynvml
        self._handle = handle
        self.problems: dict[str, str] = {}  # query: what its package raised that is not the driver's answer
        self._energy = self._number_query("nvmlDeviceGetTotalEnergyConsumption", c_ulonglong())
        self._instant = self._power_queries(pynvml.NVML_FI_DEV_POWER_INSTANT)
        self._average = self._power_queries(pynvml.NVML_FI_DEV_POWER_AVERAGE)
        self._average.append((_GPU_SCOPE, self._number_query("nvmlDeviceGetPowerUsage", c_uint())))
        self._sm_clock = self._number_query("nvmlDeviceGetClockInfo", c_uint(), pynvml.NVML_CLOCK_SM)
        self._reasons = [  # drivers before 535 know only the older name
            self._number_query(f"nvmlDeviceGetCurrentClocks{name}Reasons", c_ulonglong())
            for name in ("Event", "Throttle")
        ]
        self.instance = ""  # the UUID, or its beginning, of the instance that a run uses; empty: any
        self.index = index
        self.name = _text(self._ask("nvmlDeviceGetName"))
        self.uuid = _text(self._ask("nvmlDeviceGetUUID"))
        self.pci_bus_id = _text(self._ask("nvmlDeviceGetPciInfo", of=lambda pci: pci.busId))
        self.architecture: str | None = self._ask("nvmlDeviceGetArchitecture", of=_architectures(pynvml).get)

    def _ask(self, query: str, *arguments: Any, of: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """What `of` makes of the driver's answer; None where there is none, or none that is of use."""
        try:
            return of(getattr(self._pynvml, query)(self._handle, *arguments))
        except Exception as error:  # besides NVMLError: UnicodeDecodeError of a name, and what a broken package raises
            self._note(query, error)
            return None

    def _note(self, query: str, error: Exception) -> None:
        if not isinstance(error, self._pynvml.NVMLError):
            self.problems[query] = f"{type(error).__name__}: {error}"[:LONGEST_PROBLEM]

    def _function(self, name: str, *arguments: Any) -> Callable[[], int]:
        """A function of the driver, tied to its arguments, that returns its code.

        For what is asked ten times a second: pynvml makes the place of the answer anew each time, which takes longer
        than the answer. Two threads that ask at once share the place, and either's answer is right.
        """
        function = getattr(self._pynvml.nvmlLib, name, None)
        if function is None:
            return lambda: int(self._pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return partial(function, self._handle, *arguments)

    def _number_query(self, name: str, answer: c_uint | c_ulonglong, *arguments: Any) -> _Query:
        ask = self._function(name, *arguments, byref(answer))

        def query() -> int | None:
            try:
                return answer.value if ask() == 0 else None
            except Exception as error:
                self._note(name, error)
                return None

        return query

    def _power_queries(self, field: int) -> list[tuple[int, _Query]]:
        """Queries for milliwatts by a field value: of the GPU, and of the module that it sits on."""
        return [(scope, self._power_query(field, scope)) for scope in (_GPU_SCOPE, _MODULE_SCOPE)]

    def _power_query(self, field: int, scope: int) -> _Query:
        kind = self._pynvml.c_nvmlFieldValue_t
        asked = kind(field, scope)
        ask = self._function("nvmlDeviceGetFieldValues", 1, byref(asked))
        code, milliwatts = (
            of.from_buffer(asked, at.offset) for of, at in ((c_int, kind.nvmlReturn), (c_uint, kind.value))
        )

        def query() -> int | None:
            try:
                return milliwatts.value if ask() == 0 and code.value == 0 else None
            except Exception as error:
                self._note("nvmlDeviceGetFieldValues", error)
                return None

        return query

    @property
    def power_is_module(self) -> bool:
        """Whether power is read of a whole module: GPU, CPU and memory of a superchip."""
        return any(queries[0][0] == _MODULE_SCOPE for queries in (self._instant, self._average))

    @property
    def is_mig(self) -> bool:
        """Whether the GPU is cut into instances: its energy, power and clocks are then those of all of them."""
        return self.mig_enabled() is True

    def power_limit_w(self) -> float | None:
        """The limit in force, the lowest of all that apply."""
        return positive_within(_thousandth(self._ask("nvmlDeviceGetEnforcedPowerLimit")), MOST_BOARD_W)

    def energy_j(self) -> float | None:
        """Energy of the whole board since the driver was loaded: a counter of Volta and later."""
        return _thousandth(self._energy())

    def power_instant_w(self) -> float | None:
        return _power_w(self._instant)

    def power_average_w(self) -> float | None:
        """Power averaged over the last second (over less before Ampere and on the A100)."""
        return _power_w(self._average)

    def temperature_c(self) -> float | None:
        celsius = self._ask("nvmlDeviceGetTemperature", self._pynvml.NVML_TEMPERATURE_GPU)
        return number_within(celsius, LOWEST_TEMPERATURE_C, HIGHEST_TEMPERATURE_C)

    def sm_clock_mhz(self) -> float | None:
        return positive_within(self._sm_clock(), MOST_CLOCK_MHZ)

    def max_sm_clock_mhz(self) -> float | None:
        return positive_within(self._ask("nvmlDeviceGetMaxClockInfo", self._pynvml.NVML_CLOCK_SM), MOST_CLOCK_MHZ)

    def memory_clock_mhz(self) -> float | None:
        return positive_within(self._ask("nvmlDeviceGetClockInfo", self._pynvml.NVML_CLOCK_MEM), MOST_CLOCK_MHZ)

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """What holds the clock below its highest now, in the words of `CLOCK_REASONS`; being idle is no reason."""
        bits = next((told for ask in self._reasons if (told := ask()) is not None), None)
        return None if bits is None else tuple(word for bit, word in CLOCK_REASONS.items() if bits & bit)

    def memory_used_bytes(self) -> int | None:
        return _bytes(self._ask("nvmlDeviceGetMemoryInfo", of=lambda memory: memory.used))

    def memory_total_bytes(self) -> int | None:
        """What a run can use: of a GPU that is cut into instances that of its one, None where that can't be told."""
        if not self.is_mig:
            return self._memory_total()
        instances = self._instances()
        own = [instance for instance in instances if (instance.uuid or "").startswith(self.instance)]
        totals = {instance._memory_total() for instance in own or instances}
        return totals.pop() if len(totals) == 1 else None

    def _memory_total(self) -> int | None:
        return _bytes(self._ask("nvmlDeviceGetMemoryInfo", of=lambda memory: memory.total)) or None

    def utilization(self) -> float | None:
        """Share of the last moment (1/6 to 1 s) in which some kernel ran, 0 to 1."""
        percent = number_within(self._ask("nvmlDeviceGetUtilizationRates", of=lambda rates: rates.gpu), 0, 100)
        return None if percent is None else percent / 100

    def _running(self, kind: str) -> Processes | None:
        names = (f"nvmlDeviceGet{kind}RunningProcesses_{version}" for version in ("v3", "v2"))  # v2: before driver 510
        answers = (self._ask(name, of=_processes) for name in names)
        return next((running for running in answers if running is not None), None)

    def compute_processes(self) -> Processes | None:
        """The processes that compute on the GPU, working or not; one that only draws (a desktop) is not among them."""
        return self._running("Compute")

    def processes(self) -> Processes | None:
        """Everything that computes or draws on the GPU.

        In a container the ids may be those of the host, and foreign processes may be missing.
        """
        lists = [running for kind in ("Graphics", "Compute") if (running := self._running(kind)) is not None]
        return sorted({pid: used for running in lists for pid, used in running}.items()) if lists else None

    def ecc_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetEccMode", of=lambda modes: bool(modes[0]))
        return is_on

    def mig_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetMigMode", of=lambda modes: bool(modes[0]))
        return is_on

    def persistence_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetPersistenceMode", of=bool)
        return is_on

    def mig_uuids(self) -> list[str]:
        """The UUIDs (`MIG-...`) of the instances that the GPU is cut into."""
        return [instance.uuid or "" for instance in self._instances()]

    def _instances(self) -> list[NvmlGpu]:
        numbers = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", of=_count) or 0)
        handles = {number: self._ask("nvmlDeviceGetMigDeviceHandleByIndex", number) for number in numbers}
        return [NvmlGpu(self._pynvml, number, handle) for number, handle in handles.items() if handle is not None]


class Nvml:
    """The driver's library, open; `with open_nvml() as nvml` closes it."""

    def __init__(self, pynvml: ModuleType) -> None:
        self._pynvml = pynvml
        self.driver_version = _text(_answer(pynvml, "nvmlSystemGetDriverVersion"))
        cuda = _answer(pynvml, "nvmlSystemGetCudaDriverVersion")
        self.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) else None

    def gpus(self) -> list[NvmlGpu]:
        """The GPUs that the driver lets this process see, in the order of their PCI addresses."""
        gpus = []
        for index in range(_count(_answer(self._pynvml, "nvmlDeviceGetCount"))):
            handle = _answer(self._pynvml, "nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                gpus.append(NvmlGpu(self._pynvml, index, handle))
        return sorted(gpus, key=lambda gpu: (gpu.pci_bus_id or "", gpu.index))

    def close(self) -> None:
        _answer(self._pynvml, "nvmlShutdown")

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_nvml() -> Nvml | None:
    """The driver's library, or None where there is none that answers; `nvml_problem` says why."""
    opened = _open()
    return opened if isinstance(opened, Nvml) else None


def nvml_problem() -> str | None:
    """Why the driver's library can't be used here, in words; None where it can."""
    opened = _open()
    if isinstance(opened, Nvml):
        opened.close()
        return None
    return opened


def _open() -> Nvml | str:
    try:
        import pynvml
    except ImportError:
        return "the Python package nvidia-ml-py is not installed (pip install nvidia-ml-py)"
    except Exception as error:
        return f"the Python package nvidia-ml-py can't be imported: {type(error).__name__}: {error}"
    if not hasattr(pynvml, "NVML_FI_DEV_POWER_INSTANT"):
        return "the abandoned package pynvml hides nvidia-ml-py (pip uninstall pynvml; pip install nvidia-ml-py)"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return "no NVIDIA driver: its library libnvidia-ml.so.1 is not found"
        return f"the NVIDIA driver does not answer: {error}"
    except Exception as error:
        return f"the NVIDIA driver does not answer: {type(error).__name__}: {error}"
    return Nvml(pynvml)


def visible_gpu(nvml: Nvml, device: str, environ: Mapping[str, str] = os.environ) -> NvmlGpu | None:
    """The physical GPU that a run with `--device device` uses in this environment; None for the CPU or where unknown.

    A run sees the GPUs in the order of their PCI addresses, as NVML does (`CUDA_DEVICE_ORDER=PCI_BUS_ID`); where the
    environment orders otherwise, numbers tell nothing unless all GPUs are of one model. An instance of a GPU
    (MIG) gives the whole GPU, but for `memory_total_bytes`: `is_mig` says so.
    """
    if device == "cpu":
        return None
    gpus = nvml.gpus()
    if device in ("auto", "gpu"):
        chosen = environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    else:
        chosen = device.removeprefix("gpu:")
    if chosen.isdecimal():
        is_by_address = environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID") == "PCI_BUS_ID"
        is_known = is_by_address or len({gpu.name for gpu in gpus}) == 1
        return gpus[int(chosen)] if is_known and int(chosen) < len(gpus) else None
    if not chosen.startswith(("GPU-", "MIG-")):  # -1 or empty: none; CUDA takes anything else as none, too
        return None
    whole = chosen.removeprefix("MIG-").split("/")[0]  # older drivers: MIG-GPU-<uuid>/<instance>/<instance>
    matches = [gpu for gpu in gpus if whole.startswith("GPU-") and (gpu.uuid or "").startswith(whole)]
    if chosen.startswith("MIG-"):
        matches = matches or [gpu for gpu in gpus if any(uuid.startswith(chosen) for uuid in gpu.mig_uuids())]
        for gpu in matches:
            gpu.instance = chosen
    return matches[0] if len(matches) == 1 else None


def _answer(pynvml: ModuleType, query: str, *arguments: Any) -> Any:
    try:
        return getattr(pynvml, query)(*arguments)
    except Exception as error:
        if not isinstance(error, pynvml.NVMLError):
            logger.debug("%s: %s: %s", query, type(error).__name__, error)
        return None


def _architectures(pynvml: ModuleType) -> dict[int, str]:
    prefix = "NVML_DEVICE_ARCH_"
    names = (name for name in vars(pynvml) if name.startswith(prefix) and name != f"{prefix}UNKNOWN")
    return {getattr(pynvml, name): name.removeprefix(prefix).capitalize() for name in names}


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else None


def _count(value: object) -> int:
    return min(value, MOST_DEVICES) if isinstance(value, int) else 0


def _bytes(value: object) -> int | None:
    number = number_within(value, 0, MOST_MEMORY_BYTES)
    return None if number is None else int(number)


def _processes(running: Any) -> Processes:
    return [(int(process.pid), _bytes(process.usedGpuMemory)) for process in running]


def _thousandth(value: object) -> float | None:
    number = number_within(value, 0, 1000 * MOST_JOULES)
    return None if number is None else number / 1000


def _power_w(queries: list[tuple[int, _Query]]) -> float | None:
    """Power by the first of the queries that answers, and by no other from then on."""
    for scope, ask in queries:
        if milliwatts := ask():  # a driver that is asked too often answers 0
            queries[:] = [(scope, ask)]
            return milliwatts / 1000
    return None
