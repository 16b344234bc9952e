"""One NVIDIA GPU as the driver's own library (NVML) reports it; None is what it does not report.

Whatever its Python package raises is no answer as well, and so is what no GPU can be (`sensor_bounds`,
`driver_names`).
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_int, c_uint, c_ulonglong
from functools import partial
from types import ModuleType
from typing import Any

from epochcast.machine.gpu.driver_names import clean_name, clean_uuid, text_of
from epochcast.machine.gpu.nvml_answers import (
    LONGEST_PROBLEM,
    architectures,
    bytes_of,
    count_of,
    processes_of,
    switch_of,
    thousandth,
    words_of,
)
from epochcast.machine.gpu.sensor_bounds import (
    HIGHEST_TEMPERATURE_C,
    LOWEST_TEMPERATURE_C,
    MOST_BOARD_W,
    MOST_CLOCK_MHZ,
    number_within,
    positive_within,
)
from epochcast.machine.gpu.vendor import Processes

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
_MOST_REASONS = 0xFFFF  # nvml.h uses the lowest nine bits: a newer driver may use some more, and never all known ones
_Query = Callable[[], int | None]


class NvmlGpu:
    """One physical GPU. Every query asks the driver anew and is None where it does not answer, or a 0 that can't be."""

    library = "nvml"  # begins the sources of energy in rows
    tool = "nvidia-smi"
    power_command = "nvidia-smi -q -d POWER"

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
        self.architecture: str | None = self._ask("nvmlDeviceGetArchitecture", of=architectures(pynvml).get)

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
            self.problems[query] = words_of(error)
            return None
        if (text := clean(answer)) is None:
            self.problems[query] = f"no name: {answer!r}"[:LONGEST_PROBLEM]
        return text

    def _note(self, query: str, error: BaseException) -> None:
        words = words_of(error)
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
        return positive_within(thousandth(self._ask("nvmlDeviceGetEnforcedPowerLimit")), MOST_BOARD_W)

    def energy_j(self) -> float | None:
        """Energy of the whole board since the driver was loaded: a counter of Volta and later."""
        return thousandth(self._energy())

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
        return None if memory is None else bytes_of(memory[0], bytes_of(memory[1]))

    def memory_total_bytes(self) -> int | None:
        """What a run can use: of a GPU that is cut into instances that of its one, None where that is unknown."""
        if not self.is_mig:
            return self.own_memory_bytes()
        totals = {instance.own_memory_bytes() for instance in ([self.instance] if self.instance else self.instances())}
        return totals.pop() if len(totals) == 1 else None

    def own_memory_bytes(self) -> int | None:
        """All memory of the GPU, or of an instance."""
        return bytes_of(self._ask("nvmlDeviceGetMemoryInfo", of=lambda memory: memory.total)) or None

    def utilization(self) -> float | None:
        """Share of the last moment (1/6 to 1 s) in which some kernel ran, 0 to 1."""
        percent = number_within(self._ask("nvmlDeviceGetUtilizationRates", of=lambda rates: rates.gpu), 0, 100)
        return None if percent is None else percent / 100

    def _running(self, kind: str) -> Processes | None:
        names = (f"nvmlDeviceGet{kind}RunningProcesses_{version}" for version in ("v3", "v2"))  # v2: before driver 510
        answers = (self._ask(name, of=processes_of) for name in names)
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
        is_on: bool | None = self._ask("nvmlDeviceGetEccMode", of=lambda modes: switch_of(modes[0]))
        return is_on

    def mig_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetMigMode", of=lambda modes: switch_of(modes[0]))
        return is_on

    def persistence_enabled(self) -> bool | None:
        is_on: bool | None = self._ask("nvmlDeviceGetPersistenceMode", of=switch_of)
        return is_on

    def instance_ids(self) -> tuple[int | None, int | None]:
        """The ids of an instance and of its part that computes, by which old drivers name it (`MIG-GPU-.../1/0`)."""
        of_gpu, of_part = (self._ask(f"nvmlDeviceGet{kind}InstanceId") for kind in ("Gpu", "Compute"))
        return (of_gpu if isinstance(of_gpu, int) else None, of_part if isinstance(of_part, int) else None)

    def lacks_instances(self) -> bool:
        """Whether the GPU is in MIG mode without an instance: nothing runs on it."""
        n = self._ask("nvmlDeviceGetMaxMigDeviceCount", of=count_of) or 0
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
        numbers = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", of=count_of) or 0)
        handles = {number: self._ask("nvmlDeviceGetMigDeviceHandleByIndex", number) for number in numbers}
        return [NvmlGpu(self._pynvml, number, handle) for number, handle in handles.items() if handle is not None]


def _power_w(queries: list[tuple[int, _Query]]) -> float | None:
    """Power by the first of the queries that answers, and by no other from then on."""
    for scope, ask in queries:
        if milliwatts := ask():  # a driver that is asked too often answers 0
            queries[:] = [(scope, ask)]
            return milliwatts / 1000
    return None
