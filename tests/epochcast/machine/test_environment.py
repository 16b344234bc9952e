"""What is found out about this box, with stand-ins for the driver's and the kernel's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.machine.environment import load_average, settings, snapshot, utc_now
from epochcast.machine.gpu import driver_signs
from epochcast.machine.gpu.driver_signs import kernel_driver_version
from epochcast.machine.gpu_snapshot import driver_snapshot
from epochcast.machine.host.host import cpu_count, cpu_name
from epochcast.paths import CODE_ROOT
from tests.support.machines import fake_nvml
from tests.support.machines.boxes import plug_in


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A stand-in for the kernel's folder of the driver, empty."""
    plug_in(monkeypatch, tmp_path)
    return driver_signs.NVIDIA_PROC


def test_the_processor_is_named_with_the_cores_that_this_process_may_use():
    assert cpu_name().endswith(f" ({cpu_count()} cores)")
    assert not cpu_name().startswith(" ")
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_cores_that_the_process_may_not_use_do_not_count():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cpu_count() == 1
        assert cpu_name().endswith(" (1 cores)")
    finally:
        os.sched_setaffinity(0, before)


def test_a_device_named_by_us_is_told_to_be_a_cpu_or_a_gpu():
    assert device_kind_of(cpu_name()) == "cpu"
    assert device_kind_of("NVIDIA A100 80GB PCIe") == "gpu"
    assert device_kind_of(None) == "gpu"


def test_an_unknown_load_is_none_not_zero(monkeypatch):
    assert load_average() == pytest.approx(os.getloadavg()[0], abs=1)  # it moves between the two calls

    def fail():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", fail)
    assert load_average() is None


def test_times_are_utc_with_their_offset_to_the_second():
    now = datetime.fromisoformat(utc_now())
    assert now.utcoffset() == timedelta(0)
    assert now.microsecond == 0
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["overhead_sec", "first_epoch_excess_sec", "step_floor_sec"])
def test_assumed_values_are_positive_and_say_where_they_come_from(name, kind):
    found = assumption(name, kind)
    assert (found.name, found.device_kind) == (name, kind)
    assert found.value > 0
    assert found.unit == "s"
    assert found.source
    assert datetime.fromisoformat(found.date)


def test_a_value_that_nobody_assumed_is_an_error():
    with pytest.raises(KeyError, match="no assumption 'watts' for a gpu"):
        assumption("watts", "gpu")


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Mon Jul 21 05:20:43 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)",
    ],
)
def test_the_driver_is_known_by_the_kernel_where_its_library_does_not_answer(driver, line):
    assert kernel_driver_version() is None
    driver.mkdir(parents=True)
    (driver / "version").write_text(f"{line}\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n")
    assert kernel_driver_version() == "580.65.06"
    assert driver_snapshot("auto")["driver_version"] == "580.65.06"


def test_settings_hold_what_a_time_depends_on_and_no_password(monkeypatch):
    kept = {"CUDA_VISIBLE_DEVICES": "1", "XLA_FLAGS": "--xla_dump", "KERAS_BACKEND": "jax", "TF_XLA_FLAGS": "x"}
    kept |= {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "KERAS_TORCH_DEVICE": "cpu"}
    kept |= {"NVIDIA_TF32_OVERRIDE": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "2"}
    others = ("TF_TOKEN_app_terraform_io", "TF_VAR_password", "NVIDIA_API_KEY", "KERAS_API_KEY", "HOME")
    for name in [name for name in os.environ if name in settings()]:
        monkeypatch.delenv(name)
    for name, value in (kept | dict.fromkeys(others, "secret")).items():
        monkeypatch.setenv(name, value)
    assert settings() == kept


def test_a_snapshot_without_a_gpu_is_json_and_empty_where_it_knows_nothing(driver):
    taken = json.loads(json.dumps(snapshot(driver_snapshot("auto")), allow_nan=False))
    assert taken["gpu"] is taken["driver_version"] is taken["cuda_driver_version"] is None
    assert taken["cpu"]["name"] == cpu_name()
    assert taken["cpu"]["cores_usable"] == cpu_count()
    assert datetime.fromisoformat(taken["taken_utc"]).utcoffset() == timedelta(0)
    assert taken["python_version"] == ".".join(map(str, sys.version_info[:3]))


def test_a_snapshot_is_quick():
    def seconds() -> float:
        start = time.perf_counter()
        snapshot(driver_snapshot("auto"))
        return time.perf_counter() - start

    assert min(seconds() for _ in range(8)) < 0.05  # it is taken before and after every run


SNAPSHOT_OF_GPU = """
import json
from epochcast.machine.environment import snapshot
from epochcast.machine.gpu_driver import gpu_of, open_driver
from epochcast.machine.gpu_snapshot import driver_snapshot
with open_driver() as driver:
    print(json.dumps(snapshot(driver_snapshot("auto", driver, gpu_of(driver, "auto", {})))))
"""


def gpu_snapshot(tmp_path_factory, mode, **values):
    environ = {**os.environ, **fake_nvml.environment(fake_nvml.library(tmp_path_factory), mode, **values)}
    environ["PYTHONPATH"] = str(CODE_ROOT)
    command = [sys.executable, "-c", SNAPSHOT_OF_GPU]
    return json.loads(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


def test_a_snapshot_of_a_gpu_tells_its_clock_heat_limit_and_neighbours(tmp_path_factory):
    taken = gpu_snapshot(tmp_path_factory, "clockdrop,neighbour", duty=0, limit_w=350)
    assert taken["driver_version"] == "580.65.06"
    assert taken["cuda_driver_version"] == "13.0"
    gpu = taken["gpu"]
    assert (gpu["name"], gpu["uuid"], gpu["architecture"]) == ("NVIDIA Fake 100", fake_nvml.gpu_uuid(), "Hopper")
    assert (gpu["sm_clock_mhz"], gpu["max_sm_clock_mhz"], gpu["memory_clock_mhz"]) == (1200, 1980, 2619)
    assert gpu["throttle_reasons"] == ["hw_thermal_slowdown"]
    assert gpu["power_limit_w"] == 350
    assert 45 <= gpu["temperature_c"] <= 65
    assert gpu["processes"] == [{"pid": 4242, "memory_bytes": 1 << 30}]
    assert (gpu["ecc_enabled"], gpu["mig_enabled"], gpu["persistence_enabled"]) == (True, False, True)
    assert (gpu["utilization"], gpu["memory_used_bytes"], gpu["memory_total_bytes"]) == (0, 1 << 30, 80 << 30)


def test_what_a_driver_does_not_tell_is_none(tmp_path_factory):
    gpu = gpu_snapshot(tmp_path_factory, "pascal", limit_w=0)["gpu"]
    assert gpu["ecc_enabled"] is gpu["mig_enabled"] is gpu["power_limit_w"] is None
    assert gpu["throttle_reasons"] == gpu["processes"] == []  # told: nothing
