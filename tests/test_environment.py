"""What is found out about this box, with stand-ins for the driver's and the kernel's files."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from epochcast import environment
from epochcast.assumptions import assumption, device_kind, device_kind_of
from epochcast.environment import (
    box_device_name,
    cpu_count,
    cpu_name,
    gpu_names,
    has_nvidia_driver,
    load_average,
    utc_now,
)


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A stand-in for the driver's folder, empty; nothing on the PATH either."""
    folder = tmp_path / "nvidia"
    monkeypatch.setattr(environment, "NVIDIA_PROC", folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    return folder


def add_gpu(driver, bus, name):
    folder = driver / "gpus" / bus
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 140\nGPU UUID: \t GPU-1f2e\n")
    (driver / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65\n")


def test_without_a_driver_the_box_is_its_processor(driver):
    assert not has_nvidia_driver()
    assert gpu_names() == []
    assert box_device_name() == cpu_name()
    assert device_kind() == "cpu"


def test_a_box_with_gpus_is_its_first_gpu(driver):
    add_gpu(driver, "0000:41:00.0", "NVIDIA RTX A6000")
    add_gpu(driver, "0000:01:00.0", "NVIDIA A100 80GB PCIe")
    assert has_nvidia_driver()
    assert gpu_names() == ["NVIDIA A100 80GB PCIe", "NVIDIA RTX A6000"]
    assert box_device_name() == "NVIDIA A100 80GB PCIe"
    assert device_kind() == "gpu"


def test_a_driver_without_its_folder_is_found_by_nvidia_smi(driver, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.touch()
    assert not has_nvidia_driver()
    tool.chmod(0o755)
    assert has_nvidia_driver()


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
