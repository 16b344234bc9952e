"""Whatever the driver's Python package answers or raises, a GPU has values or none, and the row of a run stands."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from types import ModuleType, SimpleNamespace

import pynvml
import pytest

from epochcast.collect.run.monitor import Watch
from epochcast.energy.meter import PowerMeter
from epochcast.machine.device_memory import peak_memory_bytes
from epochcast.machine.gpu import driver_signs
from epochcast.machine.gpu.nvml import Nvml
from epochcast.machine.gpu.nvml_gpu import NvmlGpu
from epochcast.machine.gpu_driver import device_of, driver_problem, gpu_of, open_driver
from epochcast.machine.gpu_snapshot import gpu_snapshot
from epochcast.schema import RunSpec, to_json_dict
from tests.support.rows import run_row

RAISED = [
    RuntimeError("the bus is gone"),
    UnicodeDecodeError("utf-8", b"\xf8\x9f\xb0", 0, 1, "invalid start byte"),
    TypeError("bytes"),
    OverflowError("int too large"),
    SystemError("returned NULL"),
    AttributeError("nvmlDeviceGetName"),
    MemoryError(),
    SystemExit(3),
    pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST),
]
ANSWERED = [None, -1, 0, 2**64 - 1, 10**400, math.nan, -math.inf, True, "\ud800\x1b", b"\xf8\x9f\xb0", (), [None],
            {"a": 1}, object(), SimpleNamespace(total=-1, used="x", gpu=4000, pid="x", usedGpuMemory=-5, busId=b"\xff"),
            [SimpleNamespace(pid=1, usedGpuMemory=-5)]]  # fmt: skip


class FakeLibrary:
    """Stands for the C library: its functions put `number` into the place that they are given."""

    def __init__(self, number):
        self.number = number

    def __getattr__(self, name):
        def function(handle, *arguments):
            if isinstance(self.number, BaseException):
                raise self.number
            if name != "nvmlDeviceGetFieldValues":
                arguments[-1]._obj.value = self.number
            return 0

        return function


def binding(answer, number=0):
    """A module like pynvml whose every query raises `answer`, or returns it."""
    made = ModuleType("pynvml")
    for name, value in vars(pynvml).items():
        if name.startswith("nvml") and callable(value):

            def query(*arguments, **more):
                if isinstance(answer, BaseException):
                    raise answer
                return answer

            value = query
        setattr(made, name, value)
    made.nvmlInit = lambda: None
    made.nvmlDeviceGetCount = lambda: 1
    made.nvmlDeviceGetHandleByIndex = lambda index: "handle"
    made.nvmlLib = FakeLibrary(number)
    return made


def questions(gpu):
    return {
        name: getattr(gpu, name)()
        for name in dir(NvmlGpu)
        if not name.startswith("_") and callable(getattr(NvmlGpu, name))
    }


NUMBERS = [0, 1, 2**31 - 1, 2**32 - 1, RuntimeError("the bus is gone")]


@pytest.mark.parametrize(
    ("answer", "number"),
    [(answer, NUMBERS[i % len(NUMBERS)]) for i, answer in enumerate([*RAISED, *ANSWERED])]
    + [(None, number) for number in NUMBERS],
)
def test_a_gpu_is_unknown_where_its_driver_talks_nonsense(answer, number):
    (gpu,) = Nvml(binding(answer, number)).gpus()
    assert json.dumps(gpu_snapshot(gpu), allow_nan=False)
    for name in ("name", "uuid", "pci_bus_id", "architecture"):
        assert isinstance(getattr(gpu, name), str | None)
    for name, value in questions(gpu).items():
        assert value is None or isinstance(value, int | float | list | tuple), name
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert math.isfinite(value) and value >= (-50 if name == "temperature_c" else 0), name
    if isinstance(answer, BaseException):
        assert gpu.name is None
        assert {"nvmlDeviceGetName", "nvmlDeviceGetUUID"} <= gpu.problems.keys()
        is_more = not isinstance(answer, pynvml.NVMLError) or isinstance(number, RuntimeError)
        assert (len(gpu.problems) > 2) == is_more
    meter = PowerMeter(gpu, clock=iter(range(10_000)).__next__)
    meter.start(polls=False)
    for _ in range(40):
        meter.sample(everything=True)
    columns = asdict(meter.reading(20, 60, 2, (5, 15)))
    flags = columns.pop("row_flags")
    assert json.dumps(to_json_dict(replace(run_row(), **columns, flags=flags)), allow_nan=False)
    assert meter.stop()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_run_is_watched_and_the_reason_is_kept(error, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", binding(error))
    with Watch(RunSpec(), tmp_path / "energy.csv") as watch:
        watch.started(1)
        for epoch in range(3):
            watch.take({"event": "epoch", "epoch": epoch})
        watch.take({"event": "done"})
        report = SimpleNamespace(
            started={"device_name": "NVIDIA A100"}, edges=[(0, 1), (1, 2), (2, 3)], idle_edges=None
        )
        observed = watch.observations(report)
    known = {name: value for name, value in observed.columns.items() if name not in ("git_commit", "host_busy_cores")}
    assert replace(run_row(), **known)
    assert json.dumps(observed.environment, allow_nan=False)
    if not isinstance(error, pynvml.NVMLError):
        assert type(error).__name__ in str(observed.environment)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_package_that_does_not_start_is_no_driver(error, monkeypatch, tmp_path):
    made = binding(error)

    def fail():
        raise error

    made.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", made)
    assert open_driver() is None
    assert "does not answer" in driver_problem()
    with Watch(RunSpec(), tmp_path / "energy.csv") as watch:
        watch.take({"event": "epoch"})
        report = SimpleNamespace(started={"device_name": "x (2 cores)"}, edges=[(0, 1), (1, 2)], idle_edges=None)
        assert "does not answer" in watch.observations(report).environment["problems"][0]


def test_everything_that_fails_beside_a_run_is_kept_in_words(monkeypatch, tmp_path):
    def fail(*arguments, **more):
        raise RecursionError("deep")

    monkeypatch.setitem(sys.modules, "pynvml", binding(None))
    monkeypatch.setattr("epochcast.collect.run.monitor.snapshot", fail)
    monkeypatch.setattr("epochcast.collect.run.monitor.gpu_of", fail)
    monkeypatch.setattr(PowerMeter, "reading", fail)
    with Watch(RunSpec(), tmp_path / "energy.csv") as watch:
        watch.take({"event": "epoch"})
        watch.take({"event": "done"})
        report = SimpleNamespace(started={"device_name": "NVIDIA A100"}, edges=[(0, 1), (1, 2)], idle_edges=None)
        observed = watch.observations(report)
    deep = [words for words in observed.environment["problems"] if "nvml" not in words]
    assert deep == ["RecursionError: deep"] * 4
    assert observed.columns["energy_source"] == "none"
    assert replace(run_row(), **observed.columns)


def test_a_gpu_whose_name_is_garbage_is_seen_all_the_same(monkeypatch, tmp_path):
    made = binding(RAISED[1])
    assert gpu_of(Nvml(made), "auto", {}) is not None
    information = tmp_path / "gpus" / "0000:01:00.0" / "information"
    information.parent.mkdir(parents=True)
    information.write_bytes(b"Model: \t \xf8\x9f\xb0\n")
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    found = device_of()
    assert (found.kind, found.is_named, found.refusal) == ("gpu", False, None)
    assert found.name.startswith("unknown GPU ")


@pytest.mark.parametrize("statistics", [None, {}, {"peak_bytes_in_use": -1}, {"peak_bytes_in_use": "x"}])
def test_a_peak_of_memory_that_is_no_number_of_bytes_is_unknown(statistics, monkeypatch):
    class Device:
        def memory_stats(self):
            return statistics

    jax = ModuleType("jax")
    jax.devices = lambda: [Device()]
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert peak_memory_bytes("jax") is None
    monkeypatch.setattr(Device, "memory_stats", lambda self: {"peak_bytes_in_use": 5})
    assert peak_memory_bytes("jax") == 5


@pytest.mark.parametrize(
    ("answer", "version"),
    [(13020, "13.2"), (12080, "12.8"), (-1, None), (0, None), (2**31 - 1, None), (True, None), ("13", None), (9, None)],
)
def test_a_cuda_version_is_one_or_unknown(answer, version):
    assert Nvml(binding(answer)).runtime_version == version


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0, ()),
        (1, ()),
        (0x4, ("sw_power_cap",)),
        (0x9, ("hw_slowdown",)),
        (0x204, ("sw_power_cap",)),  # and one of a newer driver
        (0x1FF, None),
        (2**64 - 1, None),
        (2**63, None),
        (2**32 - 1, None),
    ],
)
def test_reasons_that_can_t_be_are_unknown(bits, reasons):
    (gpu,) = Nvml(binding(None, bits)).gpus()
    assert gpu.throttle_reasons() == reasons


@pytest.mark.parametrize(
    ("said", "is_on"), [(0, False), (1, True), (2, None), (255, None), (2**32 - 1, None), (-1, None), ("on", None)]
)
def test_a_mode_is_on_or_off_or_unknown(said, is_on):
    made = binding(None)
    made.nvmlDeviceGetMigMode = made.nvmlDeviceGetEccMode = lambda at: [said, said]
    made.nvmlDeviceGetPersistenceMode = lambda at: said
    (gpu,) = Nvml(made).gpus()
    assert gpu.mig_enabled() is gpu.ecc_enabled() is gpu.persistence_enabled() is is_on
    assert gpu.is_mig == (is_on is True)


@pytest.mark.parametrize(
    ("used", "total", "known"),
    [(5, 80, 5), (80, 80, 80), (81, 80, None), (2**49, 80, None), (5, 0, 5), (5, -1, 5), (2**64 - 1, 2**64 - 1, None)],
)
def test_no_more_memory_is_in_use_than_there_is(used, total, known):
    (gpu,) = Nvml(binding(SimpleNamespace(used=used, total=total))).gpus()
    assert gpu.memory_used_bytes() == known


class _Panic(BaseException):
    """As an extension module raises it."""


@pytest.mark.parametrize("error", [SystemExit(3), _Panic("boom"), GeneratorExit()])
def test_a_binding_that_exits_ends_nothing(error, monkeypatch):
    (gpu,) = Nvml(binding(error)).gpus()
    assert gpu.name is None and not any(questions(gpu)[name] for name in ("processes", "instances", "ecc_enabled"))
    broken = binding(error)
    monkeypatch.setattr(broken, "nvmlInit", lambda: (_ for _ in ()).throw(error))
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert open_driver() is None


def test_ctrl_c_in_the_binding_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        Nvml(binding(KeyboardInterrupt()))
