"""The NVIDIA GPUs of this box as the driver's own library (NVML) reports them; None is what it does not report.

Whatever its Python package raises is no answer as well, and so is what no GPU can be (`sensor_bounds`,
`driver_names`).

NVML needs no CUDA and no framework, and asking it does not touch a program that computes. It numbers the GPUs by their
PCI address; which of them a run uses is decided in `epochcast.machine.gpu_driver`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ctypes import byref, c_int, c_uint, c_ulonglong
from dataclasses import dataclass
from functools import partial
from types import ModuleType, TracebackType
from typing import Any

from epochcast.machine.driver_names import address_of, clean_name, clean_uuid, clean_version, text_of
from epochcast.machine.driver_signs import has_nvml_library
from epochcast.machine.sensor_bounds import (
    HIGHEST_TEMPERATURE_C,
    LOWEST_TEMPERATURE_C,
    MOST_BOARD_W,
    MOST_CLOCK_MHZ,
    MOST_JOULES,
    MOST_MEMORY_BYTES,
    number_within,
    positive_within,
)

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
_MOST_REASONS = 0xFFFF  # nvml.h uses the lowest nine bits: a newer driver may use some more, and never all known ones
_CUDA_VERSIONS = range(1000, 100_000)  # 13020 is 13.2
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
        self.instance: NvmlGpu | None = None  # that a run uses, of a GPU that is cut into instances; None: unknown
        self.index = index
        self.name = self._named("nvmlDeviceGetName", clean_name)
        self.uuid = self._named("nvmlDeviceGetUUID", clean_uuid)
        self.pci_bus_id = text_of(self._ask("nvmlDeviceGetPciInfo", of=lambda pci: pci.busId))
        self.architecture: str | None = self._ask("nvmlDeviceGetArchitecture", of=_architectures(pynvml).get)

    def _ask(self, query: str, *arguments: Any, of: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """What `of` makes of the driver's answer; None where there is none, or none that is of use."""
        try:
            return of(getattr(self._pynvml, query)(self._handle, *arguments))
        except BaseException as error:  # besides NVMLError: UnicodeDecodeError of a name, and a broken package's own
            self._note(query, error)
            return None

    def _named(self, query: str, clean: Callable[[object], str | None]) -> str | None:
        """A text that identifies the GPU; None, and what came instead is noted, where it can't be one."""
        try:
            answer = getattr(self._pynvml, query)(self._handle)
        except BaseException as error:  # also the driver's own: without a name the rows are compared with no others
            self.problems[query] = _words_of(error)
            return None
        if (text := clean(answer)) is None:
            self.problems[query] = f"no name: {answer!r}"[:LONGEST_PROBLEM]
        return text

    def _note(self, query: str, error: BaseException) -> None:
        words = _words_of(error)
        if not isinstance(error, self._pynvml.NVMLError):
            self.problems[query] = words

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
            except BaseException as error:
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
            except BaseException as error:
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
        bits = next((answer for ask in self._reasons if (answer := ask()) is not None), None)
        if bits is None or bits > _MOST_REASONS or all(bits & bit for bit in CLOCK_REASONS):
            return None
        return tuple(word for bit, word in CLOCK_REASONS.items() if bits & bit)

    def memory_used_bytes(self) -> int | None:
        """Memory in use; None where it is said to be more than there is."""
        memory = self._ask("nvmlDeviceGetMemoryInfo", of=lambda memory: (memory.used, memory.total))
        return None if memory is None else _bytes(memory[0], _bytes(memory[1]))

    def memory_total_bytes(self) -> int | None:
        """What a run can use: of a GPU that is cut into instances that of its one, None where that is unknown."""
        if not self.is_mig:
            return self.own_memory_bytes()
        totals = {instance.own_memory_bytes() for instance in ([self.instance] if self.instance else self.instances())}
        return totals.pop() if len(totals) == 1 else None

    def own_memory_bytes(self) -> int | None:
        """All memory of the GPU, or of an instance."""
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
        is_on: bool | None = self._ask("nvmlDeviceGetEccMode", of=lambda modes: _switch(modes[0]))
        return is_on

    def mig_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetMigMode", of=lambda modes: _switch(modes[0]))
        return is_on

    def persistence_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetPersistenceMode", of=_switch)
        return is_on

    def instance_ids(self) -> tuple[int | None, int | None]:
        """The ids of an instance and of its part that computes, by which old drivers name it (`MIG-GPU-.../1/0`)."""
        of_gpu, of_part = (self._ask(f"nvmlDeviceGet{kind}InstanceId") for kind in ("Gpu", "Compute"))
        return (of_gpu if isinstance(of_gpu, int) else None, of_part if isinstance(of_part, int) else None)

    def lacks_instances(self) -> bool:
        """Whether the GPU is in MIG mode without an instance: nothing runs on it."""
        n = self._ask("nvmlDeviceGetMaxMigDeviceCount", of=_count) or 0
        return self.is_mig and n > 0 and all(self._is_no_instance(number) for number in range(n))

    def _is_no_instance(self, number: int) -> bool:
        try:
            self._pynvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, number)
        except BaseException as error:
            self._note("nvmlDeviceGetMigDeviceHandleByIndex", error)
            return bool(getattr(error, "value", None) == self._pynvml.NVML_ERROR_NOT_FOUND)
        return False

    def instances(self) -> list[NvmlGpu]:
        """The instances that the GPU is cut into."""
        numbers = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", of=_count) or 0)
        handles = {number: self._ask("nvmlDeviceGetMigDeviceHandleByIndex", number) for number in numbers}
        return [NvmlGpu(self._pynvml, number, handle) for number, handle in handles.items() if handle is not None]


class Nvml:
    """The driver's library, open; `with open_nvml() as nvml` closes it."""

    def __init__(self, pynvml: ModuleType) -> None:
        self._pynvml = pynvml
        self.problems: dict[str, str] = {}  # query: what its package raised that is not the driver's answer
        self.unusable: dict[int, NvmlFailure] = {}  # GPUs that the driver counts and does not answer for
        self.count_failure: NvmlFailure | None = None
        self.driver_version = clean_version(self._answer("nvmlSystemGetDriverVersion"))
        cuda = self._answer("nvmlSystemGetCudaDriverVersion")
        is_version = isinstance(cuda, int) and cuda in _CUDA_VERSIONS
        self.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if is_version else None

    def gpus(self) -> list[NvmlGpu]:
        """The GPUs that the driver lets this process see, in the order of their PCI addresses.

        `index` is a GPU's place in that order, as CUDA and nvidia-smi number them. Where an address is unknown, or a
        GPU is lost, the order and `index` are NVML's own. A GPU that is another user's is not counted, as by CUDA.
        """
        gpus, self.unusable, self.count_failure = [], {}, None
        for index in range(self._n_gpus()):
            try:
                handle = self._pynvml.nvmlDeviceGetHandleByIndex(index)
            except BaseException as error:
                self.problems[f"nvmlDeviceGetHandleByIndex({index})"] = _words_of(error)
                self.unusable[index] = _failure_of(error, self._pynvml, f"GPU {index}: ")
            else:
                gpus.append(NvmlGpu(self._pynvml, index, handle))
        if self.lost:
            return gpus
        places = [address_of(gpu.pci_bus_id) for gpu in gpus]
        if None not in places:
            gpus = [gpu for _, gpu in sorted(zip(places, gpus, strict=True), key=lambda pair: (pair[0], pair[1].index))]
        for place, gpu in enumerate(gpus):
            gpu.index = place
        return gpus

    @property
    def lost(self) -> dict[int, NvmlFailure]:
        """The GPUs that the driver counts, and that nobody can use, by their index; as of the last `gpus()`."""
        forbidden = self._pynvml.NVML_ERROR_NO_PERMISSION
        return {index: failure for index, failure in self.unusable.items() if failure.code != forbidden}

    def _n_gpus(self) -> int:
        try:
            return _count(self._pynvml.nvmlDeviceGetCount())
        except BaseException as error:
            self.problems["nvmlDeviceGetCount"] = _words_of(error)
            self.count_failure = _failure_of(error, self._pynvml, "the NVIDIA driver does not count its GPUs: ")
            return 0

    def close(self) -> None:
        self._answer("nvmlShutdown")

    def _answer(self, query: str, *arguments: Any) -> Any:
        try:
            return getattr(self._pynvml, query)(*arguments)
        except BaseException as error:
            words = _words_of(error)
            if not isinstance(error, self._pynvml.NVMLError):
                self.problems[query] = words
            return None

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class NvmlFailure:
    """Why the driver's library can't be used, in words, with its error code; None: it was not the driver's answer."""

    words: str
    code: int | None = None


def open_nvml() -> Nvml | None:
    """The driver's library, or None where there is none that answers; `start_nvml` says why."""
    opened = start_nvml()
    return opened if isinstance(opened, Nvml) else None


def nvml_problem() -> str | None:
    """Why the driver's library can't be used on this box, in words; None where it can."""
    opened = start_nvml()
    if isinstance(opened, Nvml):
        opened.close()
        return None
    return opened.words


NO_LIBRARY = "no NVIDIA driver: its library libnvidia-ml.so.1 is not found"


def start_nvml() -> Nvml | NvmlFailure:
    """The driver's library, open, or why it can't be used."""
    if "pynvml" not in sys.modules and not has_nvml_library():  # its import takes longer than a prediction
        return NvmlFailure(NO_LIBRARY)
    try:
        import pynvml
    except ImportError:
        return NvmlFailure("the Python package nvidia-ml-py is not installed (pip install nvidia-ml-py)")
    except BaseException as error:
        return NvmlFailure(f"the Python package nvidia-ml-py can't be imported: {_words_of(error)}")
    if not hasattr(pynvml, "NVML_FI_DEV_POWER_INSTANT"):
        return NvmlFailure(
            "the abandoned package pynvml hides nvidia-ml-py (pip uninstall pynvml; pip install nvidia-ml-py)"
        )
    try:
        pynvml.nvmlInit()
        return Nvml(pynvml)
    except BaseException as error:
        failure = _failure_of(error, pynvml, "the NVIDIA driver does not answer: ")
        return NvmlFailure(NO_LIBRARY) if failure.code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND else failure


def _failure_of(error: BaseException, pynvml: ModuleType, lead: str) -> NvmlFailure:
    words, code = _words_of(error), getattr(error, "value", None) if isinstance(error, pynvml.NVMLError) else None
    return NvmlFailure(f"{lead}{words if code is None else error}"[:LONGEST_PROBLEM].rstrip("."), code)


def _words_of(error: BaseException) -> str:
    """What was raised, in words, whatever a broken package raises (SystemExit too); but Ctrl-C is passed on."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_PROBLEM].removesuffix(":")


def _architectures(pynvml: ModuleType) -> dict[int, str]:
    prefix = "NVML_DEVICE_ARCH_"
    names = (name for name in vars(pynvml) if name.startswith(prefix) and name != f"{prefix}UNKNOWN")
    return {getattr(pynvml, name): name.removeprefix(prefix).capitalize() for name in names}


def _count(value: object) -> int:
    return min(value, MOST_DEVICES) if isinstance(value, int) else 0


def _switch(value: object) -> bool | None:
    """Whether something is on; a driver says 0 or 1."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _bytes(value: object, most: int | None = None) -> int | None:
    number = number_within(value, 0, most or MOST_MEMORY_BYTES)
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
