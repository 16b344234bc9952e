"""The one way to a GPU's driver: nobody goes around it, and a second vendor is one class behind it."""

from __future__ import annotations

import ast
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from epochcast.collect.checks import examination
from epochcast.collect.doctor import main as doctor_main
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.energy.meter import PowerMeter
from epochcast.gpus.lookup import known_gpu
from epochcast.machine import gpu_driver
from epochcast.machine.gpu.nvidia import Nvidia
from epochcast.machine.gpu.vendor import Device, Refusal
from epochcast.machine.gpu_driver import (
    box_device_name,
    box_device_names,
    device_of,
    driver_problem,
    environment_of,
    gpu_of,
    gpus_of_this_box,
    open_driver,
    words_of_device,
)
from epochcast.machine.host.host import cpu_name
from epochcast.paths import CODE_ROOT
from epochcast.schema import RunRecord
from epochcast.storage.tables import read_table
from tests.epochcast.energy.test_meter import ScriptedGpu
from tests.support.light_child import command, isolate, light_spec
from tests.support.machines.boxes import Board, plug_in, uuid_of
from tests.support.rows import run_row

PACKAGES = ("epochcast", "workload", "collect", "aggregate", "model", "planner", "benchmarks", "tests")
# who may import what is NVIDIA's: the last part of each module's name
IMPORTERS = {
    "pynvml": {"nvml", "boxes", "test_boxes", "test_driver_nonsense"},
    "nvml": {"nvidia", "boxes", "test_driver_nonsense"},
    "nvml_gpu": {"nvml", "test_doctor", "test_driver_nonsense"},
    "nvml_answers": {"nvml", "nvml_gpu"},
    "cuda_library": {"nvidia"},
    "nvidia": {"gpu_driver", "test_driver"},
}


def imports_of(path: Path) -> set[str]:
    """The last parts of the names of all modules that a file imports, also within functions and types."""
    found, text = set(), path.read_text(encoding="utf-8")
    if not any(name in text for name in IMPORTERS):  # most files: parsing takes long
        return found
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.rpartition(".")[2] for name in found if name == "pynvml" or name.startswith("epochcast.")}


def test_nobody_goes_around_the_door_to_the_driver():
    files = [path for package in PACKAGES for path in sorted((CODE_ROOT / package).rglob("*.py"))]
    assert len(files) > 200
    offenders = [
        f"{path.relative_to(CODE_ROOT)} imports {name}"
        for path in files
        for name in IMPORTERS.keys() & imports_of(path)
        if path.stem not in IMPORTERS[name]
    ]
    assert not offenders, f"ask epochcast.machine.gpu_driver instead: {offenders}"
    importers = {path.stem for path in files if "pynvml" in imports_of(path)}
    assert "nvml" in importers  # the walk sees imports within functions


# --- a made-up second vendor ------------------------------------------------------------------------------------------

MI300X, UUID = "AMD Instinct MI300X", "GPU-a3d00000-fa4e-0000-0000-000000000000"
SHOWN = "HIP_VISIBLE_DEVICES"
GIB = 1 << 30


class Sensors(ScriptedGpu):
    """The sensors of the made-up GPU: 250 W, by the clock that the meter reads."""

    library, name, uuid = "amdsmi", MI300X, UUID
    tool, power_command, architecture = "amd-smi", "amd-smi metric --power", "CDNA3"

    def __init__(self, clock):
        super().__init__(pids=lambda t: set(), limit_w=750.0)
        self._clock, self.problems = clock, {}

    now = property(lambda self: self._clock(), lambda self, value: None)

    def temperature_c(self):
        return 45.0

    def max_sm_clock_mhz(self):
        return 2100.0

    def memory_clock_mhz(self):
        return 1300.0

    def memory_used_bytes(self):
        return 0

    def memory_total_bytes(self):
        return 192 * GIB

    def utilization(self):
        return 0.0

    def ecc_enabled(self):
        return True

    def mig_enabled(self):
        return None

    persistence_enabled = mig_enabled


class Driver:
    """The made-up driver, open."""

    driver_version, runtime, runtime_version = "6.12.12", "ROCm", "6.4"

    def __init__(self, clock):
        self._clock, self.problems, self.is_closed = clock, {}, False

    def gpu_of(self, device, environ):
        return Sensors(self._clock) if environ.get(SHOWN) != "-1" else None

    def close(self):
        self.is_closed = True


class Amd:
    """A second vendor, made up: one GPU, or none where it is hidden."""

    name, library, runtime, variables = "AMD", "AMDSMI", "ROCm", (SHOWN,)

    def __init__(self, clock, has_gpu=True):
        self._clock, self._has_gpu, self.n_asked = clock, has_gpu, 0

    def device_of(self, device, environ):
        self.n_asked += 1
        if not self._has_gpu:
            return None
        if environ.get(SHOWN) == "-1":
            refusal = Refusal(f"{SHOWN}='-1' hides the GPUs of this box", "unset it")
            return Device("cpu", cpu_name(), refusal=refusal, vendor=self.name)
        return Device("gpu", MI300X, UUID, 192 * GIB, 750.0, n_gpus=1, vendor=self.name)

    def usable_gpus(self, environ):
        found = self.device_of("auto", environ)
        return [] if found is None or found.refusal is not None else [found]

    def shown(self, device, environ):
        return {SHOWN: "0"}

    def hidden(self):
        return {SHOWN: "-1"}

    def open(self):
        return Driver(self._clock) if self._has_gpu else None

    def problem(self):
        return None if self._has_gpu else "no AMD driver"

    def kernel_version(self):
        return "6.12.12" if self._has_gpu else None

    def forget(self):
        self.n_asked = 0


@pytest.fixture
def box(monkeypatch, tmp_path):
    """Make this box one with a made-up AMD GPU, and NVIDIA's boards where some are named."""

    def make(boards=None, has_gpu=True):
        amd = Amd(time.monotonic, has_gpu)
        monkeypatch.setattr(gpu_driver, "VENDORS", (Nvidia(), amd))
        monkeypatch.delenv(SHOWN, raising=False)
        plug_in(monkeypatch, tmp_path, boards)
        isolate(monkeypatch, tmp_path, tmp_path / "trace")
        return amd

    yield make
    monkeypatch.undo()
    gpu_driver.forget()


def test_a_gpu_of_a_second_vendor_is_the_device_of_this_box(box):
    amd = box()
    assert (device_of().kind, device_of().name, device_of().uuid) == ("gpu", MI300X, UUID)
    assert box_device_names() == [MI300X]
    assert [gpu.uuid for gpu in gpus_of_this_box()] == [UUID]
    assert set(words_of_device("auto")) == {"auto", "gpu", "gpu:0", UUID}
    assert known_gpu(box_device_name()).name == known_gpu(MI300X).name
    assert device_of("cpu").name == cpu_name()
    asked = amd.n_asked
    device_of("gpu:0")
    assert amd.n_asked == asked  # its answer is kept


def test_a_framework_is_shown_the_gpu_of_the_second_vendor_or_none_of_any(box):
    box()
    assert environment_of("auto") == {SHOWN: "0"}
    hidden = environment_of("cpu")
    assert (hidden[SHOWN], hidden["CUDA_VISIBLE_DEVICES"], hidden["JAX_PLATFORMS"]) == ("-1", "-1", "cpu")


def test_the_first_vendor_with_a_usable_gpu_has_the_run(box, monkeypatch):
    box([Board("NVIDIA L4", 22.5, 72.0)])
    assert device_of().name == "NVIDIA L4"
    assert box_device_names() == ["NVIDIA L4", MI300X]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert device_of().name == MI300X
    monkeypatch.setenv(SHOWN, "-1")
    assert "CUDA_VISIBLE_DEVICES" in str(device_of().refusal)  # that of the first that has one
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert (device_of().uuid, device_of().refusal) == (uuid_of(0), None)


def test_where_no_vendor_has_a_gpu_the_processor_is_measured_and_a_wish_names_both(box):
    box(has_gpu=False)
    assert (device_of().kind, device_of().refusal) == ("cpu", None)
    assert "there is no NVIDIA or AMD driver" in device_of("gpu").refusal.cause
    assert open_driver() is None
    assert driver_problem() == Nvidia().problem()


def test_the_driver_that_is_opened_is_that_of_the_device(box):
    box([Board("NVIDIA L4", 22.5, 72.0)])
    assert open_driver().runtime == "CUDA"
    box()
    driver = open_driver()
    assert driver.runtime == "ROCm"
    assert gpu_of(driver, "auto").name == MI300X
    assert gpu_of(driver, "cpu") is None


def test_the_meter_reads_the_second_vendor_s_gpu_and_names_its_source(box):
    box()
    sensors = gpu_of(open_driver(), "auto")
    now = iter(range(1000))
    meter = PowerMeter(Sensors(lambda: next(now) / 100), clock=lambda: next(now) / 100)
    assert sensors.library == "amdsmi"
    meter.start(polls=False)
    for _ in range(100):
        meter.sample()
    reading = meter.reading(1.0, 3.0, 2)
    assert (reading.energy_source, reading.gpu_uuid, reading.power_limit_w) == ("amdsmi_counter", UUID, 750.0)
    assert reading.energy_j_window == pytest.approx(500.0, rel=0.02)


def test_the_doctor_examines_the_second_vendor_s_gpu(box, monkeypatch, capsys):
    box()
    monkeypatch.setattr(examination, "LOOK_SEC", 0.0)
    doctor_main(["--json"])
    answer = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["device"]["found"] == f"{MI300X}, 192 GiB, {UUID}"
    assert checks["driver"]["found"] == "6.12.12, for ROCm up to 6.4"
    assert "1,980 of 2,100 MHz now" in checks["clocks"]["found"] and "limit 750 W" in checks["clocks"]["found"]
    assert checks["energy"]["found"].startswith("energy counter, power at an instant")
    assert [checks[name]["status"] for name in ("device", "driver", "clocks", "energy", "neighbours")] == ["ok"] * 5
    assert "cuda" not in checks
    environment = answer["environment"]
    assert (environment["driver_version"], environment["rocm_driver_version"]) == ("6.12.12", "6.4")
    assert environment["gpu"]["name"] == MI300X and "cuda_driver_version" not in environment


def test_a_row_of_a_run_on_the_second_vendor_s_gpu_has_its_columns(box, tmp_path):
    box()
    place = RunPlace(tmp_path / "runs.csv", tmp_path / "logs", child=command("paced", "0.25", MI300X))
    row = run(light_spec(), "a", place)
    assert isinstance(row, RunRecord)
    assert read_table(place.runs, RunRecord) == [row]
    assert (row.device_name, row.gpu_uuid, row.driver_version) == (MI300X, UUID, "6.12.12")
    assert (row.device_memory_bytes, row.power_limit_w) == (192 * GIB, 750.0)
    assert row.energy_source == "amdsmi_counter"
    assert row.mean_power_w == pytest.approx(250.0, rel=0.1)
    kept = json.loads((place.log_dir / "a.json").read_text())["environment"]
    assert kept["before"]["gpu"]["architecture"] == "CDNA3"


@pytest.mark.parametrize("source", ["nvml_count", "counter", "AMDSMI_counter", "amdsmi_poll", 5, ""])
def test_a_source_of_energy_that_is_no_sensor_is_refused(source):
    row = replace(run_row(), energy_source="amdsmi_poll_avg1s")
    assert row.energy_source == "amdsmi_poll_avg1s"
    with pytest.raises(ValueError, match="energy_source"):
        replace(row, energy_source=source)
